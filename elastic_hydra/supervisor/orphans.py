"""Processes whose parent has died: they come to the nearest ancestor that adopts orphans, which ends them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterable

import psutil

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
    """Return the process ids of a process's direct children, of those that its main thread has or has adopted."""
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

    What a server starts has never been in the session of the process that started the server; so what has come here is
    a child that was not there while the server lived, in another session than this process's.

    Args:
        known: children that this process had while the server lived.
    """
    deadline, quiet = time.monotonic() + 5.0, 0
    # Once more when there was none: whose parent died during the look has been overlooked.
    while quiet < 2 and time.monotonic() < deadline:
        orphans = []
        for pid in children_of(os.getpid()) - known:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(pid) != os.getsid(0):
                    orphans += with_descendants(pid)
        kill(orphans)
        psutil.wait_procs(orphans, timeout=1.0)
        quiet = 0 if orphans else quiet + 1
