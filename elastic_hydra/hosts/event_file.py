"""The journal of a host: agents and workers there append to it, and the host process hands its lines on."""

from __future__ import annotations

import os

from elastic_hydra.supervisor.anonymous_files import anonymous_file, path_of

__all__ = ["EventFile"]


class EventFile:
    """A file that exists as long as this process. Other processes of this user here append to it by its path."""

    def __init__(self) -> None:
        self._fd = anonymous_file("elastic-hydra-journal")
        self._position = 0

    @property
    def path(self) -> str:
        """Where others find it."""
        return path_of(self._fd)

    def new_lines(self) -> bytes:
        """Return the whole lines that were appended since the last call."""
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, size - self._position, self._position)
        lines = data[: data.rfind(b"\n") + 1]
        self._position += len(lines)
        return lines

    def close(self) -> None:
        """Have it no more."""
        os.close(self._fd)
