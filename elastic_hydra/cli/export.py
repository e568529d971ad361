"""`elastic-hydra export`: a sweep's jobs for spreadsheets, for programs, and for Optuna."""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY
from elastic_hydra.cli.errors import UserError
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import cut, shown_path
from elastic_hydra.report.table import write_csv, write_json

__all__ = ["command"]


@click.command(short_help="Write jobs as CSV or JSON, or as a study of Optuna's.")
@click.argument("directory", type=DIRECTORY, metavar="[DIR]", required=False)
@click.option("--csv", "form", flag_value="csv", help="Write a table with a column for each parameter.")
@click.option("--json", "form", flag_value="json", help="Write a list with one object for each job.")
@click.option("--optuna", "url", metavar="URL", help="Make a study in this storage, as sqlite:///study.db.")
@click.option("-o", "--output", metavar="FILE", help="Where --csv and --json write; without it, standard output.")
@click.option("--study", metavar="NAME", help="The study's name; without it, that of the app and of the directory.")
@click.option(
    "--direction",
    type=click.Choice(["minimize", "maximize"]),
    help="What is better; without it, what the sweeper said, or else minimize.",
)
def command(
    directory: str | None,
    form: str | None,
    url: str | None,
    output: str | None,
    study: str | None,
    direction: str | None,
) -> int:
    """Write the jobs of a sweep for other programs: CSV, JSON, or a study of Optuna's.

    DIR is as for `status`. A sweep that runs is exported as it is now. A study that was made from the same sweep before
    is replaced.
    """
    if (form is None) == (url is None):
        raise UserError("say one of --csv, --json and --optuna URL")
    if url is None and (study or direction):
        raise UserError("--study and --direction go with --optuna URL: leave them out")
    if url is not None and output:
        raise UserError("-o goes with --csv and --json; --optuna writes where its URL says: leave -o out")
    sweep = sweeps.opened(sweeps.find(directory))[0].overview
    if url is not None:
        _export_study(sweep, url, study or _study_name(sweep), direction)
        return 0
    with _opened(output) as file:
        (write_csv if form == "csv" else write_json)(sweep, file, time.time())
    return 0


@contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    if output in (None, "-"):
        yield sys.stdout
        return
    assert output is not None
    try:
        with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
            yield file
    except OSError as error:
        raise UserError(f"{output}: it cannot be written ({error.strerror}): choose another file with -o") from None


def _export_study(sweep: SweepOverview, url: str, name: str, direction: str | None) -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UserError("--optuna needs Optuna, which is not installed: pip install optuna")
    if not sweep.jobs:
        raise UserError(f"{shown_path(sweep.folder)} has no job yet: there is nothing to export")
    from elastic_hydra.report import optuna_study

    said = sweep.began.maximize if sweep.began is not None else None
    maximize = direction == "maximize" if direction is not None else said is True
    try:
        with warnings.catch_warnings(), _progress(sweep) as jobs:
            warnings.simplefilter("ignore")  # old versions of Optuna call what is used here experimental
            optuna_study.add_trials(optuna_study.make_study(sweep, url, name, maximize), sweep, jobs)
    except optuna_study.StudyExists:
        raise UserError(
            f"{url} has a study {name} already, which was not made from this sweep: choose another name with --study"
        ) from None
    except Exception as error:  # what a storage raises depends on its database and the driver of that
        what = cut(str(error), 200) or type(error).__name__
        raise UserError(f"--optuna {url}: {what}: give the URL of a database as sqlite:///study.db") from None
    known = direction is not None or said is not None
    better = "larger" if maximize else "smaller"
    unsure = "" if known else "; the sweep does not say what is better: --direction does"
    click.echo(f"study {name} in {url}: {len(sweep.jobs)} trials, {better} values are better{unsure}")


def _progress(sweep: SweepOverview) -> AbstractContextManager[Iterable[JobOverview]]:
    """Return the jobs, with a bar on a terminal: a database takes some milliseconds for each."""
    jobs = list(sweep.jobs.values())
    if not sys.stderr.isatty():
        return nullcontext(jobs)
    return click.progressbar(jobs, label="trials", file=sys.stderr)


def _study_name(sweep: SweepOverview) -> str:
    """Return a name that tells the sweep: Hydra's directories have the date and the time as their names."""
    task = sweep.began.task if sweep.began is not None else None
    folder = Path(sweep.folder)
    return "-".join([task or "sweep", folder.parent.name, folder.name])
