"""`elastic-hydra resume`: run what a sweep has not finished."""

from __future__ import annotations

import os
from pathlib import Path

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.again import become, launcher_of_command
from elastic_hydra.cli.arguments import DIRECTORY
from elastic_hydra.cli.errors import UserError
from elastic_hydra.cli.slurm_queue import job_in_queue
from elastic_hydra.overview.words import shown_path

__all__ = ["command"]


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("overrides", metavar="[OVERRIDE]...", nargs=-1)
@click.option("--print", "only_print", is_flag=True, help="Write the command, and do not run it.")
def command(directory: str, overrides: tuple[str, ...], only_print: bool) -> None:
    """Run what a sweep has not finished.

    The command that started the sweep is run again, where it was run, with hydra.launcher.resume=true and what you add,
    such as hydra.launcher.parallel=4 or hydra.launcher.resume=failed. With several nodes, say it on each of them.
    """
    place = sweeps.find(directory)
    sweep = sweeps.opened(place)[0].overview
    shown = shown_path(place)
    if sweep.alive:
        pid = f" (process {sweep.began.pid} on {sweep.host})" if sweep.began is not None else ""
        raise UserError(f"{shown}: its launcher still runs{pid}: wait for it, or `elastic-hydra stop {shown}`")
    if job := job_in_queue(sweep):
        raise UserError(f"{shown}: its launcher is Slurm job {job}: wait for it, or `elastic-hydra stop {shown}`")
    if sweep.state == "finished" and not overrides:
        click.echo(f"{shown}: all jobs have finished, nothing is left to run ({sweep.total} of {sweep.total})")
        return
    last = sweep.last_launcher
    key = "hydra.run.dir" if last is not None and last.single else "hydra.sweep.dir"
    way_out = f"start it again there, with {key}={os.path.abspath(place)} hydra.launcher.resume=true"
    began = launcher_of_command(sweep, last, way_out)
    from elastic_hydra.sweeps.rerun import resuming_command  # imports Hydra

    again = resuming_command(
        began.program, began.command[len(began.program) :], Path(os.path.abspath(place)), overrides, single=began.single
    )
    become(again, began.cwd or ".", only_print=only_print)
