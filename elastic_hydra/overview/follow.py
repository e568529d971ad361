"""Reads the journals of a sweep into overviews, and later what was appended to them meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from elastic_hydra.journal import lock
from elastic_hydra.journal.codec import UnusableLine, decode
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.overview.sweep import SHOWN, SweepOverview

__all__ = ["Follower"]


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
                try:
                    event = decode(text, SHOWN)
                except UnusableLine:
                    self.unusable += 1
                    continue
                if event is not None:
                    self.overview.apply(event)
        self.overview.alive = is_alive(self.path, self.overview.began)
        return self._position > before

    def _begin_anew(self, file: tuple[int, int]) -> None:
        """Forget what was read: the journal was replaced by another file."""
        self.overview, self.unusable, self._position, self._file = SweepOverview(str(self.path.parent)), 0, 0, file


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
