"""`elastic-hydra rerun`: run one job of a sweep again, in a directory of its own."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.again import become, launcher_of_command
from elastic_hydra.cli.arguments import DIRECTORY, JOB
from elastic_hydra.cli.errors import UserError
from elastic_hydra.journal.events import JobComposed, SweepBegan
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.place import place_now
from elastic_hydra.journal.writer import Journal
from elastic_hydra.overview.words import shown_path

__all__ = ["command"]


@click.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR")
@click.argument("job", type=JOB, metavar="JOB")
@click.argument("overrides", metavar="[OVERRIDE]...", nargs=-1)
@click.option("--dir", "into", metavar="NEW", help="Directory of its own. Default: DIR.rerun-JOB, DIR.rerun-JOB-2, …")
@click.option("--changed", is_flag=True, help="Take the configuration as it is now, not only as it was.")
@click.option("--print", "only_print", is_flag=True, help="Write a command that runs it as job 0, and do nothing.")
def command(
    directory: str, job: int, overrides: tuple[str, ...], into: str | None, changed: bool, only_print: bool
) -> None:
    """Run one job of a sweep again, in a directory of its own.

    Nothing of the sweep is touched. The job has the number and the configuration that it had; it is refused if that has
    changed meanwhile, unless you say --changed. What you add may be keys of Hydra's, such as
    hydra.launcher.nproc_per_node=1; with others the job is another one, as with --changed.
    """
    place = sweeps.find(directory)
    follower = sweeps.opened(place)[0]
    sweep = follower.overview
    num = sweeps.job_of(sweep, job).num
    composed = _composed(follower.path, num)
    began = launcher_of_command(
        sweep, sweep.began, "start the app with the job's overrides: " + " ".join(composed.overrides)
    )
    folder = Path(os.path.abspath(into)) if into is not None else _new_folder(place, num)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--dir={into}: {folder} is not an empty directory; choose another one")
    from elastic_hydra.sweeps.rerun import is_of_hydra, rerunning_command  # imports Hydra

    recorded = not changed and not only_print and all(map(is_of_hydra, overrides))
    again = rerunning_command(began, [*composed.overrides, *overrides], folder, resume=recorded)
    if recorded:
        _record(began, composed, folder)
        click.echo(f"#{num} again, in {shown_path(folder)}", err=True)
    become(again, began.cwd or ".", only_print=only_print)


def _composed(path: Path, num: int) -> JobComposed:
    """Return the event that has the job's configuration: the last one about it."""
    found = [event for _, event in Lines(path) if isinstance(event, JobComposed) and event.num == num]
    return found[-1]


def _new_folder(place: Path, num: int) -> Path:
    """Return a directory beside that of the sweep that is not there yet."""
    beside = f"{os.path.abspath(place)}.rerun-{num}"
    names = itertools.chain([beside], (f"{beside}-{count}" for count in itertools.count(2)))
    return next(Path(name) for name in names if not os.path.exists(name))


def _record(began: SweepBegan, composed: JobComposed, folder: Path) -> None:
    """Begin the journal of the new sweep with the job, so that it keeps its number and must be what it was."""
    old, new = began.dir or "", str(folder)
    log_dir = None if composed.log_dir is None else place_now(composed.log_dir, old, new)
    journal = Journal(folder)
    journal.write(replace(began, dir=new, resume=False))
    journal.write(replace(composed, dir=place_now(composed.dir, old, new), log_dir=log_dir))
