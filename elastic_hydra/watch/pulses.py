"""A worker's sign of life, and its readiness to show its stacks: memory that it shares with its agent."""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import signal
import struct
import time
from collections.abc import Mapping

from elastic_hydra.supervisor.anonymous_files import anonymous_file, path_of

__all__ = ["Pulses", "attach", "heartbeat"]

_HEARTBEAT = "ELASTIC_HYDRA_HEARTBEAT"
"""Environment variable of a watched worker: `file:offset` of its slot."""
_STACKS = "ELASTIC_HYDRA_STACKS"
"""Environment variable of a watched worker: the file that its stacks go to."""

STACKS_SIGNAL = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else 0
"""What asks a worker for its stacks: a real-time signal that nobody uses, for SIGUSR1 and 2 are the user's."""

_SLOT = struct.Struct("dd")
"""The last heartbeat, on the monotonic clock, which all processes share; whether stacks can be asked for."""
_pack_beat = struct.Struct("d").pack_into
_monotonic = time.monotonic

_memory: mmap.mmap | None = None
_offset = 0
_tried = False
_attached = ""


def heartbeat() -> None:
    """Tell the agent that this worker makes progress; call it once per step.

    It costs less than a microsecond, starts no thread, and does nothing outside a worker that is watched.
    """
    if _memory is not None:
        _pack_beat(_memory, _offset, _monotonic())
    elif not _tried:
        attach()
        heartbeat()


def attach() -> None:
    """Find the memory that this worker's agent watches, and have the worker answer when it is asked for its stacks."""
    global _memory, _offset, _tried, _attached
    _tried = True
    where = os.environ.get(_HEARTBEAT, "")
    if where in ("", _attached):
        return
    _attached = where
    path, _, offset = where.rpartition(":")
    with contextlib.suppress(OSError, ValueError):  # the agent has gone, or is another user's
        file = os.open(path, os.O_RDWR)
        try:
            _memory, _offset = mmap.mmap(file, 0), int(offset)
        finally:
            os.close(file)
        stacks = os.open(os.environ[_STACKS], os.O_WRONLY | os.O_APPEND)
        # Its handler is C code: it answers also while the interpreter is stuck in a call.
        faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
        _pack_beat(_memory, _offset + 8, 1.0)


class Pulses:
    """The agent's side: the memory of a worker group, and files that take its stacks.

    Args:
        count: of workers on this node.
    """

    def __init__(self, count: int) -> None:
        self._file = anonymous_file("elastic-hydra-heartbeats")
        self._stacks = [anonymous_file("elastic-hydra-stacks") for _ in range(count)]
        os.ftruncate(self._file, max(1, count) * _SLOT.size)

    def environment(self, local_rank: int) -> Mapping[str, str]:
        """Return the environment variables that tell a worker where its part is."""
        # Paths reach programs and their children, too.
        return {
            _HEARTBEAT: f"{path_of(self._file)}:{local_rank * _SLOT.size}",
            _STACKS: path_of(self._stacks[local_rank]),
        }

    def beat(self, local_rank: int) -> float | None:
        """Return when a worker gave its last heartbeat, on the monotonic clock; None: it has given none."""
        return self._read(local_rank)[0] or None

    def answers(self, local_rank: int) -> bool:
        """Whether a worker can be asked for its stacks; the signal would kill one that cannot."""
        return bool(self._read(local_rank)[1])

    def _read(self, local_rank: int) -> tuple[float, float]:
        beat, answers = _SLOT.unpack(os.pread(self._file, _SLOT.size, local_rank * _SLOT.size))
        return beat, answers

    def stacks_size(self, local_rank: int) -> int:
        """Return how many bytes of stacks a worker has written so far."""
        return os.fstat(self._stacks[local_rank]).st_size

    def stacks(self, local_rank: int, start: int) -> str:
        """Return what a worker has written of its stacks from `start` on."""
        file = self._stacks[local_rank]
        return os.pread(file, max(0, os.fstat(file).st_size - start), start).decode(errors="replace")

    def close(self) -> None:
        """Give the memory back."""
        for file in (self._file, *self._stacks):
            os.close(file)
        self._stacks = []
