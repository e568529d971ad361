"""Memory of GPUs: a driver frees a dead process's a moment after its end, and the next job shall find it free."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.resources.slots import Slot

__all__ = ["GpuMemory", "Leaving"]

INTERVAL = 0.05
"""Seconds between two looks."""
_TOLERANCE = 256 << 20
"""Bytes: less than the context that any process on a GPU has, more than what a driver keeps for itself."""


@dataclass(frozen=True)
class GpuMemory:
    """What is in use on the GPUs that the launcher sees.

    Args:
        count: how many there are.
        used: tells the bytes in use on some, by index; leaves out those of which it does not know.
        wait: seconds for which a GPU may stay empty; 0: none is ever looked at.
    """

    count: int
    used: Callable[[Sequence[int]], Mapping[int, int]]
    wait: float

    def look(self, slot: Slot) -> Mapping[int, int]:
        """Return the bytes in use, by GPU, on those of a slot; a job that runs alone has all there are."""
        gpus = slot.gpus or range(self.count)
        return self.used(gpus) if self.wait > 0 and len(gpus) else {}

    def left(self, slot: Slot, before: Mapping[int, int]) -> Leaving | None:
        """Return what a job that has ended still holds; None: nothing.

        Args:
            slot: the job's.
            before: what was in use before it started.
        """
        leaving = Leaving(slot, before, time.monotonic() + self.wait)
        return leaving if self.occupied(leaving) else None

    def occupied(self, leaving: Leaving) -> dict[int, int]:
        """Return the bytes, by GPU, that are in use beyond what was before."""
        now = self.used(list(leaving.before)) if leaving.before else {}
        more = {gpu: used - leaving.before[gpu] for gpu, used in now.items()}
        return {gpu: used for gpu, used in more.items() if used > _TOLERANCE}


@dataclass(frozen=True)
class Leaving:
    """A slot whose job has ended, but not all of its memory."""

    slot: Slot
    before: Mapping[int, int]
    deadline: float
    """On the monotonic clock: then the next job starts all the same."""
