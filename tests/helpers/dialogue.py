"""A program on a terminal of its own, to which a test speaks as a person would."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["Dialogue", "dialogue"]


class Dialogue:
    """What is said on a terminal.

    Args:
        pid: of the program, whose controlling terminal it is.
        fd: the other end of the terminal.
    """

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.text = ""
        """All that the program has written, with what was typed."""
        self._fd = fd
        self._heard = 0

    def expect(self, words: str) -> None:
        """Wait until the program has written this, after what was expected before."""
        deadline = time.monotonic() + 120
        while (found := self.text.find(words, self._heard)) < 0:
            assert time.monotonic() < deadline, f"it does not say {words!r}:\n{self.text}"
            assert self._read(1.0), f"it has ended without {words!r}:\n{self.text}"
        self._heard = found + len(words)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._fd, f"{line}\n".encode())

    def press(self, letter: str) -> None:
        """Press a letter, or another key, together with Ctrl."""
        os.write(self._fd, bytes([ord(letter.upper()) & 0x1F]))

    def end(self) -> int:
        """Wait for the end of the program, and return its exit code."""
        while self._read(1.0):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        """Read what there is, or wait for it; whether anybody may still write."""
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # nobody has the terminal any more
                return False
            self.text += data.decode(errors="replace").replace("\r\n", "\n")
            return bool(data)
        return True


@contextlib.contextmanager
def dialogue(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Dialogue]:
    """Run a program on a terminal; it is killed if it outlives the test."""
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.execvpe(command[0], list(command), {**environ, "TERM": "dumb", "PYTHON_COLORS": "0"})
        finally:
            os._exit(127)
    try:
        yield Dialogue(pid, fd)
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)
