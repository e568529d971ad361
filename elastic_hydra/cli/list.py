"""`elastic-hydra list`: all sweeps below a folder."""

from __future__ import annotations

import time
from pathlib import Path

import click

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.arguments import DIRECTORY
from elastic_hydra.cli.columns import Cell, in_columns, terminal_width
from elastic_hydra.cli.errors import UserError
from elastic_hydra.cli.status_text import COLOURS, command_text, counts_text
from elastic_hydra.overview.find import sweeps_below
from elastic_hydra.overview.words import cut, moment, shown_path

__all__ = ["command"]

_HEADS = ("began", "directory", "state", "jobs", "command")
_LONGEST_COMMAND = 120


@click.command()
@click.argument("folder", type=DIRECTORY, metavar="[FOLDER]", required=False)
@click.option("-n", "--newest", type=click.IntRange(min=1), metavar="N", help="List only the N newest ones.")
def command(folder: str | None, newest: int | None) -> None:
    """List all sweeps below a folder, the newest first.

    Without FOLDER, these are the sweeps below multirun/ and outputs/.
    """
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"{folder}: there is no such directory")
    folders = [folder] if folder is not None else sweeps.DEFAULT_FOLDERS
    found = [place for name in folders for place in sweeps_below(Path(name))]
    if not found:
        where = " and ".join(f"{name}/" if folder is None else str(name) for name in folders)
        raise UserError(f"there is no sweep below {where}: give the folder that has them")
    now = time.time()
    rows = sorted((_row(place, now) for place in found), key=lambda row: row[0], reverse=True)[:newest]
    click.echo("\n".join(in_columns(_HEADS, [cells for _, cells in rows], terminal_width())))


def _row(place: Path, now: float) -> tuple[float, list[Cell]]:
    """Return when a sweep began, and its row; a sweep that cannot be read has one, too."""
    try:
        sweep = sweeps.opened(place)[0].overview
    except UserError as error:
        return 0.0, [Cell("?"), Cell(shown_path(place)), Cell("unreadable", "red"), Cell(""), Cell(error.message)]
    began = sweep.began.time if sweep.began is not None else sweep.first_began
    return began, [
        Cell(moment(began, now)),
        Cell(shown_path(place)),
        Cell(sweep.state, COLOURS.get(sweep.state)),
        Cell(click.unstyle(counts_text(sweep))),
        Cell(cut(command_text(sweep), _LONGEST_COMMAND)),
    ]
