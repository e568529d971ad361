"""The lines of the view, drawn by rich: a bar of all jobs, a line for each that runs, and the last failures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from elastic_hydra.overview.words import printable

__all__ = ["MOST_FAILURES", "Failure", "Painter", "Picture", "Running", "clock"]

_NARROW = 60
"""Columns below which a line says only which job it is and how long it has run."""
MOST_FAILURES = 3
"""The last ones, which are shown."""


@dataclass(frozen=True)
class Running:
    """A job that runs."""

    num: int
    what: str
    """What tells it from the others: its overrides that not all jobs have."""
    seconds: float
    """How long it has run."""
    restarts: int = 0
    note: str = ""
    """What it has said last, or what it waits for."""


@dataclass(frozen=True)
class Failure:
    """A job that has run and has not finished."""

    num: int
    what: str
    state: str
    reason: str


@dataclass(frozen=True)
class Picture:
    """What there is to see of a sweep at one moment."""

    total: int
    """How many jobs it has."""
    finished: int = 0
    failed: int = 0
    """How many have run and not finished."""
    running: Sequence[Running] = ()
    failures: Sequence[Failure] = field(default=())
    """The last ones; the last one first."""
    left: str = ""
    """How long it will take, in words; empty: nobody knows."""
    pending: str = ""
    """Which hosts wait in a queue, and why, in words; empty: none does."""


class Painter:
    """Draws pictures as lines with colours.

    Args:
        encoding: of the terminal; what it cannot say is not used.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._console = Console(file=io.StringIO(), force_terminal=True, legacy_windows=False, highlight=False)
        self._unicode = encoding.lower().replace("-", "").startswith("utf")
        self._more = "…" if self._unicode else "~"
        self._bar, self._cross = ("━", "✗") if self._unicode else ("=", "x")

    def lines(self, picture: Picture, width: int, height: int) -> list[str]:
        """Draw.

        Args:
            picture: what there is to see.
            width: columns that a line may have.
            height: the most lines.
        """
        shown_failures = min(len(picture.failures), MOST_FAILURES, max(0, height - 2) // 3)
        has_pending = bool(picture.pending) and height > 2
        room = height - 1 - shown_failures - has_pending
        running = picture.running[: room if len(picture.running) <= room else room - 1]
        texts = [self._progress(picture, width), *self._table(running, width)]
        if len(running) < len(picture.running) and room > 0:
            texts.append(Text(f" and {len(picture.running) - len(running)} more", "dim"))
        texts += [Text(f" {picture.pending}", "dim")] * has_pending
        texts += [self._failure(failure, width) for failure in picture.failures[:shown_failures]]
        return [self._coloured(text, width) for text in texts]

    def _progress(self, picture: Picture, width: int) -> Text:
        ended = picture.finished + picture.failed
        done = f"{ended} of {picture.total} done" if width >= _NARROW else f"{ended}/{picture.total}"
        words = [(done, "bold"), (f"{len(picture.running)} running", "cyan")]
        if picture.failed:
            words.append((f"{picture.failed} failed", "bold red"))
        if picture.left:
            words.append((f"{picture.left} left", ""))
        text = Text()
        for index, (word, style) in enumerate(words):
            text.append(", " if index else " ").append(word, style)
        room = width - text.cell_len
        return self._bar_of(picture, room).append_text(text) if room >= 10 else text[1:]

    def _bar_of(self, picture: Picture, width: int) -> Text:
        """Draw all jobs as parts of one line: those that have finished, have failed, run, and wait."""
        bar, at = Text(), 0.0
        counts = [(picture.finished, "green"), (picture.failed, "red"), (len(picture.running), "cyan")]
        for count, style in counts:
            begin, at = at, at + count * width / max(1, picture.total)
            bar.append(self._bar * (round(at) - round(begin)), style)
        rest = max(0, width - bar.cell_len)
        return bar.append((self._bar if self._unicode else "-") * rest, "bright_black")

    def _table(self, running: Sequence[Running], width: int) -> list[Text]:
        labels = [f"#{job.num}" for job in running]
        whats = [printable(job.what) for job in running]
        times = [clock(job.seconds) for job in running]
        starts = [_restarts(job.restarts) if width >= _NARROW else "" for job in running]
        label, time, restarts = (max(map(len, column), default=0) for column in (labels, times, starts))
        fixed = label + time + (restarts + 2 if restarts else 0) + 5
        room = max(0, width - fixed)
        most = room if width < _NARROW else int(room * 0.4)
        what = min(max(map(cell_len, whats), default=0), most)
        texts = []
        for job, *columns in zip(running, labels, whats, times, starts, strict=True):
            text = Text().append(f" {columns[0]:>{label}}  ", "bold cyan").append(self._fitted(columns[1], what))
            text.append(f"  {columns[2]:>{time}}", "bold")
            if restarts:
                text.append(f"  {columns[3]:<{restarts}}", "yellow")
            texts.append(text.append(f"  {printable(job.note)}", "dim") if width >= _NARROW else text)
        return texts

    def _failure(self, failure: Failure, width: int) -> Text:
        what = printable(failure.what)
        text = Text().append(f" {self._cross} #{failure.num}", "bold red").append(f"  {self._fitted(what)}")
        room = width - text.cell_len
        return text if room < 20 else text.append(f"  {failure.state}: {printable(failure.reason)}", "red")

    def _fitted(self, text: str, width: int | None = None) -> str:
        """Fill a text up to a width, or cut it off there."""
        width = min(cell_len(text), 40) if width is None else width
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, width - 1) + self._more if width else ""

    def _coloured(self, text: Text, width: int) -> str:
        if text.cell_len > width:
            text.truncate(width - 1)
            text.append(self._more, "dim")
        # Not by Console.print, which would take three times as long to look for line breaks that are not there.
        return "".join(self._written(segment) for segment in text.render(self._console))

    def _written(self, segment: Segment) -> str:
        style = segment.style
        if style is None:
            return segment.text
        style = style.without_color if self._console.no_color else style
        return style.render(segment.text, color_system=ColorSystem.STANDARD)


def clock(seconds: float) -> str:
    """Write a time that runs: `0:07`, `12:03`, `1:02:03`, `2d 01:02`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if not hours:
        return f"{minute}:{second:02}"
    days, hour = divmod(hours, 24)
    return f"{days}d {hour:02}:{minute:02}" if days else f"{hour}:{minute:02}:{second:02}"


def _restarts(count: int) -> str:
    return "" if not count else f"{count} restart" + ("s" if count > 1 else "")
