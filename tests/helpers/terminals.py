"""A terminal to be tested with: a pseudoterminal, and what a person would see on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Terminal"]


class Terminal:
    """A terminal of a given size, which keeps what scrolls out of it at its upper end.

    Args:
        columns: its width.
        rows: its height.
    """

    def __init__(self, columns: int = 60, rows: int = 12) -> None:
        self.master, self.slave = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000)
        self.raw = b""
        """All that was written to it."""
        self._stream = pyte.ByteStream(self.screen)
        self._say_size(columns, rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, as a window is closed: the processes in its foreground, and their shell, get SIGHUP."""
        ends, self.master, self.slave = (self.master, self.slave), -1, -1
        for fd in ends:
            with contextlib.suppress(OSError):
                os.close(fd)

    def resize(self, columns: int, rows: int) -> None:
        """Give it another size, as xterm and tmux do it; who has it as controlling terminal gets SIGWINCH.

        A lower one loses the rows below the cursor first, and then those at the top. The whole screen scrolls again.
        """
        self.read()
        screen = self.screen
        gone = max(0, screen.cursor.y + 1 - rows)
        screen.history.top.extend(screen.buffer[row] for row in range(gone))
        kept = [screen.buffer[gone + row] for row in range(min(rows, screen.lines - gone))]
        screen.buffer.clear()
        screen.buffer.update(enumerate(kept))
        screen.cursor.y -= gone
        screen.lines, screen.columns, screen.margins = rows, columns, None
        screen.dirty.update(range(rows))
        self._say_size(columns, rows)

    def _say_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds: float = 0.0) -> bool:
        """Take in what was written to it; wait some seconds when there is nothing.

        Returns:
            whether anything was.
        """
        found = False
        while select.select([self.master], [], [], 0.0 if found else seconds)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # nobody has it open any more
                return found
            self.raw += data
            self._stream.feed(data)
            found = True
        return found

    def wait_for(self, seen: Callable[[], bool], what: str = "it") -> None:
        """Wait until something is to be seen on it."""
        deadline = time.monotonic() + 240
        while not seen():
            assert time.monotonic() < deadline, f"no sign of {what}:\n{self.text}"
            self.read(0.2)

    def wait_for_text(self, *texts: str) -> None:
        """Wait until all of these are on it, or were."""
        self.wait_for(lambda: all(text in self.text for text in texts), str(texts))

    @property
    def is_whole(self) -> bool:
        """Whether all of it scrolls."""
        self.read()
        return self.screen.margins in (None, (0, self.screen.lines - 1))

    def write(self, text: str) -> None:
        """Write to it as a program does."""
        os.write(self.slave, text.encode())

    def type(self, text: str) -> None:
        """Write to it as a person does."""
        os.write(self.master, text.encode())

    @property
    def rows(self) -> list[str]:
        """What is on the screen, without the blanks at the ends of rows."""
        self.read()
        return [row.rstrip() for row in self.screen.display]

    @property
    def text(self) -> str:
        """All that is on the screen or has left it at its upper end, without blank rows at the end."""
        shown = self.rows
        gone = ["".join(row[i].data for i in range(self.screen.columns)).rstrip() for row in self.screen.history.top]
        return "\n".join([*gone, *shown]).rstrip("\n")
