"""Processes whose parent has died: the kernel gives them to the nearest ancestor that adopts orphans, which ends them.

The server adopts orphans as long as it lives. The process that has started the server does so as well: when the server
is killed, everything that the kernel has not killed with it comes there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterable

import psutil

from elastic_hydra import timeouts
from elastic_hydra.supervisor.process_state import shared_change

__all__ = ["adopt_orphans", "adopting_orphans", "children_of", "kill", "kill_orphans", "with_descendants"]

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def adopt_orphans(adopt: bool = True) -> bool:
    """Become the parent of descendants whose own parent dies, so that they can be found and ended (Linux only).

    Returns:
        whether this process was that before.
    """
    if sys.platform != "linux":
        return False
    library, before = ctypes.CDLL(None, use_errno=True), ctypes.c_int()
    library.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    library.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
    return bool(before.value)


def adopting_orphans() -> contextlib.AbstractContextManager[None]:
    """Adopt orphans for a while, in any number of threads."""
    return shared_change("orphans", adopt_orphans, adopt_orphans)


def children_of(pid: int) -> set[int]:
    """Return the process ids of the direct children of a process: those that its main thread has started or adopted."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return set(map(int, file.read().split()))
    except OSError:  # not Linux, or a kernel without this file
        return {process.pid for process in psutil.Process(pid).children()}


def with_descendants(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill processes, those that are there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def kill_orphans(known: set[int]) -> None:
    """Kill the processes that this one has adopted from a dead server, with all below them, and wait for their ends.

    A process that a server has started is never in the session of the process that has started the server. So the
    orphans are those children of this process that it did not have while the server lived, and that are in another
    session.

    Args:
        known: children that this process had while the server lived.
    """
    deadline, quiet = time.monotonic() + timeouts.ORPHANS, 0
    # Two looks in a row must find nobody: a process whose parent dies during a look is overlooked by it.
    while quiet < 2 and time.monotonic() < deadline:
        orphans = []
        for pid in children_of(os.getpid()) - known:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(pid) != os.getsid(0):
                    orphans += with_descendants(pid)
        kill(orphans)
        psutil.wait_procs(orphans, timeout=timeouts.REMAINS)
        quiet = 0 if orphans else quiet + 1
