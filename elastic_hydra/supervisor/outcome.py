"""What a process hands over to its client: the value of its function, or the exception that ended it.

It is written into an anonymous file that both have open, so that it is there however the process ends afterwards. What
must never happen: that a half-written outcome is read. So the first byte, which says of what kind it is, is written
last.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from dataclasses import dataclass
from typing import Any

from elastic_hydra.supervisor import context, pickles
from elastic_hydra.supervisor.packed_error import PackedError, WorkerError

__all__ = [
    "ANNOUNCED",
    "Outcome",
    "ResultError",
    "Returned",
    "announce",
    "failed_at",
    "has_value",
    "how_it_left",
    "read",
    "write",
]

ANNOUNCED = "ELASTIC_HYDRA_FAILED"
"""Environment variable of a worker: the pipe by which its agent is woken."""


class ResultError(WorkerError, TypeError):
    """A worker's return value cannot be sent to another process. It will be the same at the next try."""


@dataclass
class Returned:
    """What a function returns for the user's code that it has called."""

    value: Any
    """The user's own."""
    exited: str = ""
    """Where that code called `sys.exit()`; empty: it returned."""


@dataclass
class Outcome:
    """How a function that ran in another process ended."""

    value: Any = None
    error: PackedError | None = None


_BUFFER = 1 << 16
_UNFINISHED, _VALUE, _EXITED, _ERROR = b"?", b"V", b"X", b"E"


def write(fd: int, outcome: Outcome) -> None:
    """Write the outcome into the anonymous file that the starter of this process reads.

    Raises:
        Exception: whatever pickling the value or writing the file raises; the reader then finds no outcome.
    """
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "wb", closefd=False) as file:
        file.write(_UNFINISHED)
        if outcome.error is None:
            pickles.Pickler(file, {}, context.current().main_names).dump(outcome.value)
        else:
            pickle.dump(outcome.error, file)
    exited = isinstance(outcome.value, Returned) and outcome.value.exited
    os.pwrite(fd, _ERROR if outcome.error is not None else _EXITED if exited else _VALUE, 0)


def announce() -> None:
    """Wake this worker's agent: it waits for ends of processes, but there is an outcome before this one ends."""
    with contextlib.suppress(OSError):  # the agent has gone, or there is none
        fd = os.open(os.environ.get(ANNOUNCED, ""), os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b".")
        os.close(fd)


class _Reader(io.RawIOBase):
    """Reads a file whose position belongs to its writer, too; large parts go straight to where they are wanted."""

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._position = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = os.preadv(self._fd, [buffer], self._position)
        self._position += size
        return size


def has_value(fd: int) -> bool:
    """Whether a value was handed over, and completely."""
    return os.pread(fd, 1, 0) in (_VALUE, _EXITED)


def failed_at(fd: int) -> float | None:
    """Return when an exception was handed over, in seconds since the epoch; None: none was."""
    return os.fstat(fd).st_mtime if os.pread(fd, 1, 0) == _ERROR else None


def how_it_left(fd: int) -> str:
    """Say in words how a function ended that has handed over a value, which is not read if it is the user's."""
    if os.pread(fd, 1, 0) != _EXITED:
        return "returned"
    left = read(fd)
    return f"called sys.exit(0) at {left.value.exited}" if left is not None else "called sys.exit(0)"


def read(fd: int, *, errors_only: bool = False) -> Outcome | None:
    """Read an outcome, without waiting for its writer.

    Args:
        fd: the anonymous file that was given to the process.
        errors_only: do not read a value: it counts only once its process has ended well.

    Returns:
        the outcome, or None when there is none (yet).

    Raises:
        Exception: whatever unpickling the value raises.
    """
    kind = os.pread(fd, 1, 0)
    if kind not in (_VALUE, _EXITED, _ERROR) or (errors_only and kind != _ERROR):
        return None
    with io.BufferedReader(_Reader(fd, len(kind)), _BUFFER) as file:
        result = pickle.load(file)
    return Outcome(error=result) if kind == _ERROR else Outcome(value=result)
