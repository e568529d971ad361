"""Queues, locks and shared memory in pickles for new interpreters, by their file descriptors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import context as multiprocessing_context
from multiprocessing import process
from typing import Any

from elastic_hydra.compat import cpython
from elastic_hydra.supervisor import context

__all__ = ["HandedDown", "Pickled", "collected"]


@dataclass(frozen=True)
class HandedDown:
    """What `multiprocessing` hands down to each of its processes."""

    authkey: bytes
    tracker: int | None
    """Which of the file descriptors leads to the process that removes what is left of shared memory."""

    def adopt(self) -> None:
        """Take it over, as a process that `multiprocessing` itself has started."""
        process.current_process().authkey = self.authkey
        if self.tracker is not None:
            cpython.use_resource_tracker(context.current().received_files[self.tracker])


@dataclass(frozen=True)
class Pickled:
    """A pickle, and the file descriptors that it refers to."""

    data: bytes
    fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Passed:
    """Stands in a pickle for a file descriptor."""

    index: int

    def detach(self) -> int:
        """Hand it over to the object that it belongs to."""
        return context.current().received_files[self.index]


class _Collector:
    """Stands where `multiprocessing` expects the process that it is about to start."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    def DupFd(self, index: int) -> _Passed:  # noqa: N802  # the name is that of `multiprocessing`
        return _Passed(index)


@contextlib.contextmanager
def collected(*, elsewhere: bool = False) -> Iterator[tuple[list[int], HandedDown]]:
    """Let what is pickled meanwhile name file descriptors by their places in the list that this gives.

    Args:
        elsewhere: whether the pickle is for another host: then it can name none, and pickling what has one fails.
    """
    if elsewhere:
        yield [], HandedDown(bytes(process.current_process().authkey), None)
        return
    collector: Any = _Collector()
    tracker = cpython.resource_tracker_fd()
    place = None if tracker is None else collector.duplicate_for_child(tracker)
    multiprocessing_context.set_spawning_popen(collector)
    try:
        yield collector.fds, HandedDown(bytes(process.current_process().authkey), place)
    finally:
        multiprocessing_context.set_spawning_popen(None)
