"""The last rows of a terminal, held for a view, while everything else scrolls above them.

Launcher, agents and workers write to one terminal, each when it likes, and none of them knows of the others. So the
rows are not kept free by whoever writes, but by the terminal: its scrolling region ends above them. What is written
there stays as it is: progress bars, colours, lines in parts, and what is typed at a prompt.

::

    row 1   ┐
            │ scrolling region: the cursor is always here, and whoever writes writes here
    row 20  ┘
    row 21  ┐ footer: drawn by one write, which begins with saving the cursor and ends with
    row 24  ┘ putting it back; the kernel lets no other write to the terminal come between

What must never happen: that the scrolling region is left behind. `remove` ends it, and so does `GIVE_BACK` when it is
written by those who outlive this process.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Sequence

__all__ = ["GIVE_BACK", "Footer"]

_SAVE, _RESTORE = "\x1b7", "\x1b8"
"""Of the cursor: its place and its colours."""
_WHOLE_SCREEN = "\x1b[r"
"""Ends the scrolling region. As any change of the region, it moves the cursor into the first row."""
_DOWN = "\x1bD"
"""One row down in the same column; in the last row of the region, the region scrolls."""
_PLAIN = "\x1b[0m"
_CLEAR_REST_OF_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"

GIVE_BACK = _SAVE + _WHOLE_SCREEN + _RESTORE + _CLEAR_BELOW
"""Gives the rows back wherever they are: the cursor is above them."""


class Footer:
    """Rows at the bottom of a terminal.

    Args:
        fd: a file descriptor of the terminal.
        encoding: of the terminal.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self._rows = 0
        """How many rows are held."""
        self._size = (0, 0)
        """Columns and rows of the terminal when it was last drawn on."""

    def show(self, lines: Sequence[str]) -> None:
        """Draw, in as many rows as there are lines; nothing while the terminal takes no output, as after Ctrl-S.

        Args:
            lines: what they say, from the top; each shorter than the terminal is wide. They may have colours.

        Raises:
            OSError: the terminal is gone.
        """
        if not _takes_output(self._fd):
            return
        columns, height = size = os.get_terminal_size(self._fd)
        parts = [self._after_resize(size)]
        if len(lines) > self._rows:
            parts.append(_room(len(lines) - self._rows))
        elif len(lines) < self._rows:
            parts.append(_SAVE + self._cleared(height, self._rows - len(lines)) + _RESTORE)
        self._rows, self._size = len(lines), (columns, height)
        first = height - len(lines) + 1
        # The region is set anew each time: a program may have reset the terminal meanwhile.
        parts.append(f"{_SAVE}\x1b[1;{first - 1}r{_PLAIN}")
        parts += [f"\x1b[{first + i};1H{_PLAIN}{line}{_CLEAR_REST_OF_LINE}" for i, line in enumerate(lines)]
        parts.append(_RESTORE)
        self._write("".join(parts))

    def remove(self) -> None:
        """Give the rows back: they are empty, and the whole terminal scrolls again."""
        if self._rows:
            cleared = self._cleared(self._size[1], self._rows)
            self._rows = 0
            with contextlib.suppress(OSError):
                self._write(_SAVE + _PLAIN + cleared + _WHOLE_SCREEN + _RESTORE)

    def _after_resize(self, size: os.terminal_size) -> str:
        """Return what gives the rows back where the terminal has another size now, and they are anywhere below."""
        if not self._rows or (size.columns, size.lines) == self._size:
            return ""
        self._rows = 0
        return GIVE_BACK

    def _cleared(self, height: int, count: int) -> str:
        """Return what clears the first of the rows that are held."""
        first = height - self._rows + 1
        return "".join(f"\x1b[{first + i};1H{_CLEAR_REST_OF_LINE}" for i in range(count))

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            with contextlib.suppress(BlockingIOError):  # somebody has made the terminal non-blocking for all
                data = data[os.write(self._fd, data) :]
            if data:
                select.select([], [self._fd], [])


def _takes_output(fd: int) -> bool:
    """Whether a terminal takes output now."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


def _room(count: int) -> str:
    """Return what makes room for some rows below the cursor, wherever that is; if need be, all above moves up."""
    return _DOWN * count + f"\x1b[{count}A"
