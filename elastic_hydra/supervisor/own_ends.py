"""Ends of connections that this process has for itself: a fork of it closes its copies.

The other side takes the end of a connection for the end of this process. What must never happen: that a third process
keeps a copy of this process's end; then the other side would not see that this process is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["connected", "own"]

_making = threading.RLock()
"""Held while a connection is made: a process that another thread forks meanwhile would keep both ends open."""

_ends: weakref.WeakSet[socket.socket | IO[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    global _making
    _making = threading.RLock()
    for end in list(_ends):
        end.close()
    _ends.clear()


os.register_at_fork(after_in_child=_after_fork)


def own(end: socket.socket | IO[Any]) -> None:
    """Have all forks of this process that are made from now on close their copies of an end of a connection."""
    _ends.add(end)


@contextlib.contextmanager
def connected(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make a pair of sockets, and let a process be started with the second one.

    The first is this process's own. The second is closed here afterwards.

    Args:
        kind: of the sockets.
    """
    with _making:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        own(ours)
        try:
            yield ours, theirs
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
