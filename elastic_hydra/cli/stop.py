"""`elastic-hydra stop`: stop jobs of a running sweep, or all of it."""

from __future__ import annotations

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY, JOB
from elastic_hydra.cli.control import launcher_of, or_user_error
from elastic_hydra.cli.errors import UserError
from elastic_hydra.cli.slurm_queue import cancel, job_in_queue
from elastic_hydra.control.client import ask
from elastic_hydra.control.requests import STOP, Request
from elastic_hydra.overview.words import shown_path

__all__ = ["command"]


def _cancel_in_queue(directory: str, jobs: tuple[int, ...]) -> bool:
    """Cancel the Slurm job of a launcher that waits in the queue; whether there was one."""
    sweep = sweeps.opened(sweeps.find(directory))[0].overview
    if not (job := job_in_queue(sweep)):
        return False
    if jobs:
        raise UserError(f"JOB: the launcher waits in the queue, as Slurm job {job}: leave the numbers out to cancel it")
    cancel(job)
    click.echo(f"{shown_path(sweep.folder)}: Slurm job {job}, its launcher, is cancelled")
    return True


@click.command(short_help="Stop a running sweep, or jobs of it.")
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("jobs", metavar="[JOB]...", nargs=-1, type=JOB)
@click.option("-r", "--reason", default="", metavar="TEXT", help="Why; the journal keeps it with your name.")
def command(directory: str, jobs: tuple[int, ...], reason: str) -> None:
    """Stop jobs of a running sweep, or the sweep when no JOB is given.

    A job that runs gets SIGTERM, and after hydra.launcher.shutdown_timeout SIGKILL; it is then interrupted, and not
    tried again. A job that waits is not started. The sweep ends as by SIGTERM. hydra.launcher.resume=true runs all of
    them again.

    \b
    Examples:
      elastic-hydra stop multirun/2026-11-28/09-00-00 3 7 --reason "the loss is NaN"
      elastic-hydra stop multirun/2026-11-28/09-00-00
    """
    if _cancel_in_queue(directory, jobs):
        return
    launcher, follower = launcher_of(directory)
    answer = or_user_error(lambda: ask(launcher, Request(STOP, jobs, reason), follower.path.parent))
    if not jobs:
        click.echo(f"{shown_path(follower.path.parent)} is told to stop")
    for nums, fate in ((answer["running"], "told to stop"), (answer["left_out"], "not started")):
        if nums:
            click.echo(f"{', '.join(f'#{num}' for num in nums)} {'is' if len(nums) == 1 else 'are'} {fate}")
