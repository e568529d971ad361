"""Reads the journals of a sweep into overviews, and later what was appended to them meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from elastic_hydra.journal import lock
from elastic_hydra.journal.codec import UnusableLine, composed_in, decode, head_of, word_of
from elastic_hydra.journal.events import Event, JobComposed, JobEnded, State, SweepBegan
from elastic_hydra.overview.sweep import OF_JOBS, SHOWN, SweepOverview

__all__ = ["Follower"]

_COMPOSED, _ENDED = word_of(JobComposed), word_of(JobEnded)
_STATES = frozenset(state.encode() for state in get_args(State))


class Follower:
    """Keeps the overview of one journal up to date.

    Half a line at the end is left for later: its writer has not finished it.

    Args:
        path: the journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.overview = SweepOverview(str(path.parent))
        """What the journal says so far."""
        self.unusable = 0
        """How many lines cannot be used."""
        self._position = 0
        """How far the journal was read, in bytes."""
        self._untold: dict[bytes, list[bytes]] = {}
        """Lines about jobs that have not ended, by the jobs' numbers; the first one says that the job was composed."""
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that was read."""

    def read(self) -> bool:
        """Read what is new.

        Returns:
            whether anything is new.

        Raises:
            NewerFormat: a later version of this package has written the journal.
            OSError: the journal cannot be read.
        """
        with open(self.path, "rb") as file:
            status = os.fstat(file.fileno())
            if self._file != (status.st_dev, status.st_ino) or status.st_size < self._position:
                self._begin_anew((status.st_dev, status.st_ino))
            before = self._position
            file.seek(before)
            self._read_lines(file)
        self.overview.alive = is_alive(self.path, self.overview.began)
        return self._position > before

    def _read_lines(self, file: Iterable[bytes]) -> None:
        """Take all whole lines. Those of jobs that end meanwhile are put off until somebody asks for them."""
        for text in file:
            if not text.endswith(b"\n"):
                break
            self._position += len(text)
            time, word, num, state = head_of(text)
            if word == _COMPOSED:
                self._compose(text, num, float(time))
            elif word in OF_JOBS:
                if (lines := self._untold.get(num)) is None:
                    self._take(text)
                    continue
                lines.append(text)
                if word == _ENDED and state in _STATES:
                    self.overview.end_later(int(num), state.decode(), float(time))
                    del self._untold[num]
            elif word in SHOWN or not word:
                self._tell_jobs()  # the line may be about any job
                self._take(text)
        self._tell_jobs()

    def _compose(self, text: bytes, num: bytes, time: float) -> None:
        try:
            overrides, line = composed_in(text)
        except UnusableLine:
            self.unusable += 1
        else:
            self._untold[num] = lines = [line]
            self.overview.compose_later(int(num), overrides, time, functools.partial(_usable, lines))

    def _tell_jobs(self) -> None:
        """Take the lines that were put off about jobs that have not ended."""
        untold, self._untold = self._untold, {}
        for lines in untold.values():
            happened = lines[1:]
            del lines[1:]
            for text in happened:
                self._take(text)

    def _take(self, text: bytes) -> None:
        try:
            event = decode(text, SHOWN)
        except UnusableLine:
            self.unusable += 1
        else:
            if event is not None:
                self.overview.apply(event)

    def _begin_anew(self, file: tuple[int, int]) -> None:
        """Forget what was read: the journal was replaced by another file."""
        self.overview, self.unusable, self._position, self._file = SweepOverview(str(self.path.parent)), 0, 0, file
        self._untold.clear()


def _usable(lines: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of lines, but for lines that cannot be used."""
    for text in lines:
        with contextlib.suppress(UnusableLine):
            if (event := decode(text)) is not None:
                yield event


def is_alive(path: Path, began: SweepBegan | None) -> bool | None:
    """Whether the launcher that writes a journal, or a worker of it, still lives.

    Args:
        path: the journal.
        began: tells of the launcher; None: the journal does not.

    Returns:
        None: that cannot be seen from here.
    """
    held = lock.is_held(path)
    if held is not None or began is None:
        return held
    if began.host != os.uname().nodename or began.pid is None:
        return None
    return os.path.exists(f"/proc/{began.pid}")
