"""The jobs of one call of the launcher, on their way from their overrides to what they returned."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.utils import JobReturn

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.resources.gpu_memory import Leaving
from elastic_hydra.resources.slots import Slot, Slots, next_to_start
from elastic_hydra.supervisor.client import Process
from elastic_hydra.sweep.job import Job

__all__ = ["Batch", "Running"]

_MARGIN = 10.0
"""Seconds that an agent gets on top of all its timeouts before it is taken for one that hangs."""


@dataclass(eq=False)
class Running:
    """A job that has been started."""

    job: Job
    process: Process
    """Its agent."""
    slot: Slot
    gpu_memory: Mapping[int, int] = field(default_factory=dict)
    """Bytes that were in use on its GPUs, by index, before it started."""
    overdue: bool = False
    """Whether its agent was killed because it did not see to the time limit."""

    def time_left(self) -> float | None:
        """Return the seconds until its agent must have ended the job, and itself; None: there is no limit."""
        limit = self.job.launch.keys.watch.time_limit
        return None if limit is None else limit + self.job.launch.keys.shutdown_timeout + _MARGIN - self.job.elapsed


@dataclass(eq=False)
class Batch:
    """Jobs that are planned, wait, run, and have ended."""

    planned: deque[tuple[int, list[str]]]
    """Numbers and overrides of those that are not composed yet."""
    slots: Slots
    jobs: list[Job] = field(default_factory=list)
    """Those that are composed, in Hydra's order."""
    waiting: list[Job] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)
    """Slots of jobs that have ended, where a GPU is not empty yet."""
    returns: dict[int, JobReturn] = field(default_factory=dict)
    next_start: float = 0.0
    """Not before, on the monotonic clock."""
    started: int = 0
    """How often an agent was started."""
    overtaken: int = 0
    """How many jobs have overtaken the first that waits."""
    refused: ConfigError | None = None
    """Why a job that was composed late cannot be launched."""

    def size(self) -> int:
        """Return how many jobs there are."""
        return len(self.jobs) + len(self.planned)

    def side_by_side(self, parallel: Any) -> bool:
        """Whether several of them may run at once, given `hydra.launcher.parallel`."""
        return str(parallel) != "1" and self.size() > 1

    def choose(self) -> tuple[Job, Slot] | None:
        """Take the job that is to start now out of those that wait, and a slot for it."""
        ready = [job for job in self.waiting if job.not_before <= time.monotonic()]
        chosen = next_to_start([job.launch.demand for job in ready], self.slots, self.overtaken)
        if chosen is None:
            return None
        index, slot = chosen
        self.overtaken = self.overtaken + 1 if index else 0
        self.waiting.remove(ready[index])
        return ready[index], slot

    def pause(self) -> float:
        """Return how long nothing can start even if there is room, in seconds; 0 when something can."""
        earliest = min((job.not_before for job in self.waiting), default=0.0)
        return max(0.0, max(self.next_start, earliest) - time.monotonic())
