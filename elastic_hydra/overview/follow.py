"""Reads the journals of a sweep into overviews, and later what was appended to them meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from elastic_hydra.journal import lock
from elastic_hydra.journal.codec import UnusableLine, decode, end_of, head_of
from elastic_hydra.journal.events import Event, State, SweepBegan
from elastic_hydra.overview.sweep import OF_JOBS, SHOWN, SweepOverview

__all__ = ["Follower"]

_STATES = get_args(State)


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
        self._unread: dict[int, list[bytes]] = {}
        """Lines about jobs that are put off, by the numbers of the jobs."""
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
            for text in file:
                if not text.endswith(b"\n"):
                    break
                self._position += len(text)
                head = head_of(text)
                if head is None:
                    self._read_jobs()  # the line may be about any job
                    self._take(text)
                elif head[0] in OF_JOBS:
                    self._unread.setdefault(head[1], []).append(text)
                elif head[0] in SHOWN:
                    self._read_job(head[1], self._unread.pop(head[1], ()))
                    self._take(text)
            self._read_jobs()
        self.overview.alive = is_alive(self.path, self.overview.began)
        return self._position > before

    def _read_jobs(self) -> None:
        """Take the lines about jobs that were put off."""
        unread, self._unread = self._unread, {}
        for num, lines in unread.items():
            self._read_job(num, lines)

    def _read_job(self, num: int, lines: Sequence[bytes]) -> None:
        """Take lines about one job; if it has ended, only for when somebody asks for it."""
        job, end = self.overview.jobs.get(num), end_of(lines[-1]) if lines else None
        is_new = job is not None and job.state == "waiting" and job.started is None
        if job is not None and is_new and end is not None and end[1] in _STATES:
            self.overview.apply_later(job, end[1], end[0], lambda: _usable(lines))
            return
        for text in lines:
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
