"""A bell that one thread rings to end the wait of another."""

from __future__ import annotations

import contextlib
import socket

__all__ = ["Bell"]


class Bell:
    """Is readable from `ring` to `hush`."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        for end in (self._heard, self._rung):
            end.setblocking(False)

    def fileno(self) -> int:
        """Return what is to be polled; -1 once it is closed."""
        return self._heard.fileno()

    def ring(self) -> None:
        """Wake whoever waits for it, or will."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            self._rung.send(b"\0")

    def hush(self) -> None:
        """Have it not ring any more."""
        with contextlib.suppress(BlockingIOError):
            self._heard.recv(4096)

    def close(self) -> None:
        """Release what it holds."""
        self._heard.close()
        self._rung.close()
