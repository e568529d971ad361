"""A warm server as a child of this process: it is awaited, and what it leaves behind when it is killed is killed, too.

The kernel kills the children of a server that dies, but not what they had started. This process adopts orphans while it
uses the server, so that all of those come here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import psutil

from elastic_hydra.supervisor.orphans import adopting_orphans, children_of, kill_orphans

__all__ = ["ServerProcess"]

_pids: set[int] = set()
"""Process ids of all servers that are children of this process."""


class ServerProcess:
    """A server that this process has started.

    Args:
        pid: its process id.
        popen: the same, where it is an interpreter of its own; None: it is a fork of this process.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.popen = popen
        self._not_its: set[int] = set()
        """Children of this process that the server has not left behind, since they were there while it lived."""

    def note_ready(self) -> None:
        """Tell it from what a dead server has left behind, from now on."""
        _pids.add(self.pid)

    def note_children(self) -> None:
        """Look which children this process has: they are not what the server leaves behind later."""
        self._not_its |= children_of(os.getpid())

    @contextlib.contextmanager
    def adopting_orphans(self) -> Iterator[None]:
        """While entered, what the server leaves behind, should it die, is found here and killed."""
        self.note_children()
        with adopting_orphans():
            yield

    def resume(self) -> None:
        """Let it go on, should somebody have stopped it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def take_away(self, timeout: float, *, was_killed: bool) -> bool:
        """Wait for its end, kill it if that does not come, and kill what it has left behind if it was killed.

        Args:
            timeout: seconds.
            was_killed: whether it is known that it has not ended by itself.

        Returns:
            whether it was killed, now or before.
        """
        self.resume()
        if not self._has_ended(timeout):
            was_killed = True
            os.kill(self.pid, signal.SIGKILL)
            self._has_ended(None)
        if was_killed:
            kill_orphans(self._not_its | _pids)
        _pids.discard(self.pid)
        return was_killed

    def _has_ended(self, timeout: float | None) -> bool:
        """Wait for its end, and take its remains away."""
        try:
            if self.popen is not None:
                self.popen.wait(timeout)
            else:
                psutil.Process(self.pid).wait(timeout)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        except psutil.NoSuchProcess:
            pass  # somebody else has taken them away
        return True
