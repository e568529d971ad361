"""Heartbeats and stacks of workers, as their agent reads them: in memory that the agent shares with the workers."""

from __future__ import annotations

import os
from collections.abc import Mapping

from elastic_hydra.supervisor.anonymous_files import anonymous_file, path_of
from elastic_hydra.worker import HEARTBEAT, SLOT, STACKS

__all__ = ["Pulses"]


class Pulses:
    """The memory for the heartbeats of a worker group, and the files for its workers' stacks.

    Args:
        count: the number of workers on this node.
    """

    def __init__(self, count: int) -> None:
        self._file = anonymous_file("elastic-hydra-heartbeats")
        self._stacks = [anonymous_file("elastic-hydra-stacks") for _ in range(count)]
        os.ftruncate(self._file, max(1, count) * SLOT.size)

    def environment(self, local_rank: int) -> Mapping[str, str]:
        """Return the environment variables that tell a worker where its part of the memory and its file are."""
        # These are paths and not file descriptors, so that programs that the worker starts can open them, too.
        return {
            HEARTBEAT: f"{path_of(self._file)}:{local_rank * SLOT.size}",
            STACKS: path_of(self._stacks[local_rank]),
        }

    def beat(self, local_rank: int) -> float | None:
        """Return when a worker gave its last heartbeat, on the monotonic clock; None: it has given none."""
        return self._read(local_rank)[0] or None

    def answers(self, local_rank: int) -> bool:
        """Whether a worker can be asked for its stacks. A worker that cannot would be killed by the signal."""
        return bool(self._read(local_rank)[1])

    def _read(self, local_rank: int) -> tuple[float, float]:
        beat, answers = SLOT.unpack(os.pread(self._file, SLOT.size, local_rank * SLOT.size))
        return beat, answers

    def stacks_size(self, local_rank: int) -> int:
        """Return how many bytes of stacks a worker has written so far."""
        return os.fstat(self._stacks[local_rank]).st_size

    def stacks(self, local_rank: int, start: int) -> str:
        """Return the stacks that a worker has written.

        Args:
            local_rank: the worker.
            start: bytes to leave out: they were written earlier.
        """
        file = self._stacks[local_rank]
        return os.pread(file, max(0, os.fstat(file).st_size - start), start).decode(errors="replace")

    def close(self) -> None:
        """Close the memory and the files."""
        for file in (self._file, *self._stacks):
            os.close(file)
        self._stacks = []
