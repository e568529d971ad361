"""`elastic-hydra status`: what a sweep does, or what has become of it."""

from __future__ import annotations

import json
import os
import sys
import time

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY
from elastic_hydra.cli.columns import terminal_width
from elastic_hydra.cli.slurm_queue import queue_text
from elastic_hydra.cli.status_text import counts_text, status_text
from elastic_hydra.cli.sweep_json import sweep_as_json
from elastic_hydra.config.sizes import counted
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.words import moment

__all__ = ["command"]

_INTERVAL = 1.0
"""Seconds between two looks of `--watch`."""
_QUEUE_INTERVAL = 15.0
"""Seconds between two questions to Slurm, whose controller serves many."""
_GOING_ON = ("submitted", "running")
"""States of sweeps that may change by themselves."""


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", required=False)
@click.option("-w", "--watch", is_flag=True, help="Look again and again, until the sweep has ended.")
@click.option("--failed", is_flag=True, help="Show only jobs that have run and have not finished.")
@click.option("--all", "every", is_flag=True, help="Show all jobs, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, with all jobs, for other programs.")
def command(directory: str | None, watch: bool, failed: bool, every: bool, as_json: bool) -> int:
    """Show what a sweep does, or what has become of it.

    DIR is the sweep's directory, or a folder with sweeps, of which the newest is meant. Without it, that is the newest
    sweep below multirun/ and outputs/.

    The exit code is 0 when the sweep runs or all its jobs have finished, else 1.
    """
    followers = sweeps.opened(sweeps.find(directory))
    first = followers[0]
    if as_json:
        click.echo(json.dumps(sweep_as_json(first.overview, time.time(), failed=failed), indent=1))
    elif watch and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _watch_on_terminal(followers, failed, every)
    elif watch:
        _watch_in_pipe(first)
    else:
        click.echo(_text(followers, failed, every, queue_text(first.overview)))
    return 0 if first.overview.state in ("submitted", "running", "finished") else 1


def _text(followers: list[Follower], failed: bool, every: bool, queue: str) -> str:
    lines = [status_text(followers[0].overview, time.time(), terminal_width(), failed=failed, every=every)]
    for follower in followers[1:]:
        sweep = follower.overview
        lines.append(f"{sweep.host or follower.path.name}: {sweep.state}, {counts_text(sweep)}")
    if queue:
        lines.append(queue)
    if unusable := sum(follower.unusable for follower in followers):
        lines.append(f"{counted(unusable, 'line')} of the journal cannot be used; the others count")
    return "\n".join(lines)


def _watch_on_terminal(followers: list[Follower], failed: bool, every: bool) -> None:
    """Draw the status anew every second, until the sweep has ended."""
    from rich.live import Live
    from rich.text import Text

    queue, asked = "", -_QUEUE_INTERVAL
    with Live(auto_refresh=False) as live:
        while True:
            sweep = followers[0].overview
            if sweep.state == "running":
                queue, asked = "", -_QUEUE_INTERVAL
            elif time.monotonic() >= asked + _QUEUE_INTERVAL:
                queue, asked = queue_text(sweep), time.monotonic()
            live.update(Text.from_ansi(_text(followers, failed, every, queue)), refresh=True)
            if sweep.state not in _GOING_ON:
                return
            time.sleep(_INTERVAL)
            for follower in followers:
                sweeps.read(follower)


def _watch_in_pipe(follower: Follower) -> None:
    """Write a line whenever the number of jobs in a state changes, until the sweep has ended."""
    said = ""
    while True:
        sweep = follower.overview
        if (line := f"{sweep.state}: {counts_text(sweep)}") != said:
            said = line
            click.echo(f"{moment(time.time(), time.time())} {line}")
        if sweep.state not in _GOING_ON:
            return
        time.sleep(_INTERVAL)
        sweeps.read(follower)
