"""Memory of GPUs: drivers free the memory of a process some time after its end, and the next job must find it free."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.resources.slots import Slot

__all__ = ["GpuMemory", "Leaving"]

INTERVAL = 0.05
"""Seconds between two looks at the memory."""
_TOLERANCE = 256 << 20
"""Bytes that may stay in use: fewer than a process needs for its context on a GPU, more than a driver keeps."""


@dataclass(frozen=True)
class GpuMemory:
    """Tells which memory is in use on the GPUs that the launcher sees.

    Args:
        count: the number of these GPUs.
        used: returns the bytes in use by index of GPU, and leaves out GPUs of which the driver does not tell.
        wait: seconds that the next job waits at most until a GPU is free; 0: GPUs are not looked at.
    """

    count: int
    used: Callable[[Sequence[int]], Mapping[int, int]]
    wait: float

    def look(self, slot: Slot) -> Mapping[int, int]:
        """Return the bytes in use by GPU, on the GPUs of a slot. A slot without GPUs stands for all GPUs.

        Args:
            slot: the slot. That of a job that runs alone names no GPUs, since the job may use all of them.
        """
        gpus = slot.gpus or range(self.count)
        return self.used(gpus) if self.wait > 0 and len(gpus) else {}

    def left(self, slot: Slot, before: Mapping[int, int]) -> Leaving | None:
        """Return what a job that has ended still holds; None: nothing.

        Args:
            slot: the job's slot.
            before: bytes by GPU that were in use before the job started.
        """
        leaving = Leaving(slot, before, time.monotonic() + self.wait)
        return leaving if self.occupied(leaving) else None

    def occupied(self, leaving: Leaving) -> dict[int, int]:
        """Return, by GPU, the bytes in use beyond those that were in use before the job started."""
        now = self.used(list(leaving.before)) if leaving.before else {}
        more = {gpu: used - leaving.before[gpu] for gpu, used in now.items()}
        return {gpu: used for gpu, used in more.items() if used > _TOLERANCE}


@dataclass(frozen=True)
class Leaving:
    """A slot whose job has ended, but whose GPU memory is not free yet."""

    slot: Slot
    before: Mapping[int, int]
    """Bytes by GPU that were in use before the job started."""
    deadline: float
    """When the next job starts although the memory is not free, in seconds on the monotonic clock."""
