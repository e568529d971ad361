"""`elastic-hydra explain`: why a job waits, runs, has failed or was tried again."""

from __future__ import annotations

import time

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY, JOB
from elastic_hydra.cli.status_text import COLOURS
from elastic_hydra.overview.history import happened, why_now
from elastic_hydra.overview.words import duration, moment, shown_path

__all__ = ["command"]


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("job", type=JOB, metavar="[JOB]", required=False)
def command(directory: str, job: int | None) -> None:
    """Explain why a job waits, runs, failed or was retried.

    Each decision about the job is told with its reason. DIR is the directory of the sweep. JOB may be left out where
    there is only one.
    """
    followers, now = sweeps.opened(sweeps.find(directory)), time.time()
    sweep = followers[0].overview
    chosen = sweeps.job_of(sweep, job)
    state = sweep.state_of(chosen)
    title = click.style(f"#{chosen.num} ({' '.join(sweep.differing(chosen))})", bold=True)
    took = f", {duration(chosen.seconds(now))}" if chosen.started is not None and state != "lost" else ""
    click.echo(f"{title}: {click.style(state, fg=COLOURS.get(state))}{took}")
    for when, said in happened([follower.path for follower in followers], chosen.num):
        click.echo(f"  {click.style(moment(when, now), dim=True)}  {said}")
    if now_said := why_now(sweep, chosen, now):
        click.echo(f"  {click.style('now', dim=True)}  {now_said}")
    click.echo(f"its directory: {shown_path(chosen.dir)}")
    if chosen.log is not None:
        click.echo(f"read on in {shown_path(chosen.log)}")
