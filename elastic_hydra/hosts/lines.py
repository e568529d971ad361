"""The lines that somebody writes into a pipe or a socket, read without waiting for them."""

from __future__ import annotations

import os
from collections import deque
from typing import IO

__all__ = ["Lines"]

_LAST_LINES = 20
"""So many lines are kept, for messages."""
_LONGEST_LINE = 1 << 16
"""Bytes after which a line that has not ended is taken for one."""
_READS = 16
"""So often the file is read at most before its reader does something else: who writes may be faster than it."""


class Lines:
    """The lines of a file that becomes longer while it is read. The file is closed at its end.

    Args:
        file: unbuffered; reading from it does not wait any more.
    """

    def __init__(self, file: IO[bytes]) -> None:
        os.set_blocking(file.fileno(), False)
        self._file: IO[bytes] | None = file
        self._rest = b""
        """The beginning of a line that has not ended yet."""
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._new: list[str] = []

    def fileno(self) -> int:
        """Return what becomes readable when there is something new; -1 when the file has ended."""
        return -1 if self._file is None else self._file.fileno()

    def new(self) -> list[str]:
        """Return the lines, without their ends, that have come since the last call."""
        self.read()
        new, self._new = self._new, []
        return new

    def last(self) -> tuple[str, ...]:
        """Return the last lines that are not blank, and one that has not ended yet."""
        self.read()
        return (*self._last, *self._unfinished())

    def close(self) -> None:
        """Take in what `read` does, and close the file."""
        self.read()
        if self._file is not None:
            self._end()

    def read(self) -> None:
        """Take in what is there, but no more than 1 MB at once."""
        for _ in range(_READS):
            if self._file is None:
                return
            data = self._file.read(_LONGEST_LINE)
            if data is None:
                return
            if not data:
                self._end()
                return
            *whole, self._rest = (self._rest + data).split(b"\n")
            self._keep([_text(line) for line in whole])
            if len(self._rest) >= _LONGEST_LINE:
                self._keep_unfinished()

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        self._keep_unfinished()

    def _keep_unfinished(self) -> None:
        self._keep(self._unfinished())
        self._rest = b""

    def _keep(self, lines: list[str]) -> None:
        self._new += lines
        self._last += [line for line in lines if line.strip()]

    def _unfinished(self) -> list[str]:
        return [_text(self._rest)] if self._rest else []


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
