"""Rows set in columns, cut to the width of a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

from elastic_hydra.overview.words import cut

__all__ = ["Cell", "in_columns", "terminal_width"]

_GAP = "  "
_NARROWEST = 10
"""Characters that the last column has at least."""


class Cell(NamedTuple):
    """A text in a column."""

    text: str
    colour: str | None = None
    """Its name, as `click.style` knows it; None: no colour."""


def terminal_width() -> int | None:
    """Return the characters of a line on the terminal; None: standard output is none, lines may be of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def in_columns(heads: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None, widest: int = 60) -> list[str]:
    """Set rows in columns; a column that says nothing is left out.

    Args:
        heads: the heads of the columns.
        rows: the cells of each row, as many as heads.
        width: characters of a line, to which the last column is cut; None: lines may be of any length.
        widest: characters of any other column.
    """
    shown = [column for column in range(len(heads)) if any(row[column].text for row in rows)]
    if not shown:
        return []
    widths = [max(len(heads[column]), *(len(row[column].text) for row in rows)) for column in shown]
    widths = [min(wide, widest) for wide in widths[:-1]] + widths[-1:]
    if width is not None:
        left = width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
        widths[-1] = max(_NARROWEST, min(widths[-1], left))
    first = _line([Cell(heads[column]) for column in shown], widths)
    return [click.style(first, dim=True), *(_line([row[column] for column in shown], widths) for row in rows)]


def _line(cells: Sequence[Cell], widths: Sequence[int]) -> str:
    parts = []
    for cell, width in zip(cells, widths, strict=True):
        padded = cut(cell.text, width).ljust(width)
        parts.append(padded if cell.colour is None else click.style(padded, fg=cell.colour))
    return _GAP.join(parts).rstrip()
