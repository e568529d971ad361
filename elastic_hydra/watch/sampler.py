"""Measures what running workers do, for the limits of `hydra.launcher.watch`: heartbeats, output, CPU time, memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil

from elastic_hydra.config.watch import Memory, WatchConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.evidence import Overrun
from elastic_hydra.supervisor.orphans import with_descendants
from elastic_hydra.watch.limits import Look, Sign, exceeded, pause
from elastic_hydra.watch.pulses import Pulses

__all__ = ["Watch", "Watched"]


class Watched(Protocol):
    """The workers of one node, as the watch sees them."""

    pulses: Pulses | None

    def running(self) -> Mapping[int, int]:
        """Return the process ids of the workers that have not ended, by local rank."""

    def working(self) -> set[int]:
        """Return the local ranks of the workers whose function has not returned: others may only wait for the rest."""

    def output_size(self, local_rank: int) -> int:
        """Return how many bytes a worker has written to its stdout and stderr files."""


_BUSY = 0.01
"""Part of one CPU that a worker must use to count as busy."""


@dataclass
class _Seen:
    """What the last look saw of one worker; times are in seconds on the monotonic clock."""

    output_size: int
    """Bytes of output."""
    output_at: float | None = None
    """When a look last saw new output."""
    cpu_seconds: float = 0.0
    """CPU time that the worker and its children had used."""
    looked_at: float = 0.0
    """When `cpu_seconds` was measured."""
    cpu_at: float | None = None
    """When a look last saw that the worker was busy."""


class Watch:
    """Watches the workers of one job on one node. It measures only what has a limit, and only as often as necessary.

    Args:
        config: the limits.
        elapsed: seconds for which the job has run under earlier agents.
    """

    def __init__(self, config: WatchConfig, elapsed: float = 0.0) -> None:
        self._config = config
        self._on = config.is_on()
        self._group_started = time.monotonic()
        self._job_started = self._group_started - elapsed
        self._next = 0.0
        self._workers: Watched | None = None
        self._ranks: Mapping[int, int] = {}
        self._seen: dict[int, _Seen] = {}
        self._known: set[Kind] = set()
        self._count = 0
        self._last_end: float | None = None

    def begin(self, workers: Watched, ranks: Mapping[int, int]) -> None:
        """Watch a new group.

        Args:
            workers: the group.
            ranks: global ranks by local rank.
        """
        if not self._on:
            return
        self._workers, self._ranks = workers, ranks
        self._group_started = time.monotonic()
        self._seen = {rank: _Seen(workers.output_size(rank), looked_at=self._group_started) for rank in ranks}
        self._known = set()
        self._next = 0.0
        self._count, self._last_end = len(ranks), None

    def pause(self) -> float | None:
        """Return the seconds until the next look is due; None: never."""
        now = time.monotonic()
        due = pause(self._config, now, self._job_started) if self._on else None
        if due is None:
            return None
        self._next = now + due if self._next <= now else min(self._next, now + due)
        return self._next - now

    def time_left(self) -> float | None:
        """Return the seconds that are left of the job's time; None: it has no limit."""
        if self._config.time_limit is None:
            return None
        return self._job_started + self._config.time_limit - time.monotonic()

    def look(self) -> list[Overrun]:
        """Look, if it is time to.

        Returns:
            the limits that are exceeded now and were not at the last look, the worst first.
        """
        now = time.monotonic()
        if not self._on or self._workers is None or now < self._next:
            return []
        overruns = exceeded(self._config, self._take(now))
        new = [overrun for overrun in overruns if overrun.kind not in self._known]
        self._known = {overrun.kind for overrun in overruns}
        return new

    def _take(self, now: float) -> Look:
        assert self._workers is not None
        config = self._config
        progress = config.progress if config.progress_limit is not None else []
        looks_at_output = "output" in progress or config.start_up_limit is not None
        signs, memory = [], 0
        working = self._workers.working()
        if len(working) < self._count:
            self._count, self._last_end = len(working), now
        for local_rank, pid in self._workers.running().items():
            seen = self._seen[local_rank]
            tree = _tree(pid) if "cpu" in progress or config.memory_limit is not None else []
            if "cpu" in progress:
                _see_cpu(seen, tree, now)
            if config.memory_limit is not None:
                memory += sum(_memory(process, config.memory) for process in tree)
            if looks_at_output and (size := self._workers.output_size(local_rank)) != seen.output_size:
                seen.output_size, seen.output_at = size, now
            if local_rank not in working:
                continue  # the worker has nothing to do any more, so it gives no signs; its memory counts
            signs.append(self._sign(local_rank, seen, _state(pid) if progress else ""))
        return Look(
            now,
            self._job_started,
            self._group_started,
            time.time(),
            signs,
            last_end=self._last_end,
            memory=memory if config.memory_limit is not None else None,
        )

    def _sign(self, local_rank: int, seen: _Seen, state: str) -> Sign:
        assert self._workers is not None
        pulses = self._workers.pulses
        beat = pulses.beat(local_rank) if pulses is not None else None
        return Sign(self._ranks[local_rank], beat=beat, output=seen.output_at, cpu=seen.cpu_at, state=state)


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none if the process has ended."""
    with contextlib.suppress(psutil.Error):
        return with_descendants(pid)
    return []


def _see_cpu(seen: _Seen, tree: list[psutil.Process], now: float) -> None:
    """Note how much CPU time a worker's processes have used, and whether they were busy since the last look."""
    used = 0.0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    # If the sum is smaller than before, a child has ended with its share of it. This counts as progress as well.
    if used < seen.cpu_seconds or used - seen.cpu_seconds >= _BUSY * max(now - seen.looked_at, 0.0) > 0.0:
        seen.cpu_at = now
    seen.cpu_seconds, seen.looked_at = used, now


def _memory(process: psutil.Process, how: Memory) -> int:
    with contextlib.suppress(psutil.Error):
        if how is Memory.pss and hasattr(process.memory_info(), "shared"):  # Linux
            return int(process.memory_full_info().pss)
        return int(process.memory_info().rss)
    return 0


def _state(pid: int) -> str:
    """Say, in words, why a process cannot run; empty: it can, or it has ended."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        letter = file.read().rpartition(b")")[2].split()[0]
        return {b"T": "stopped by a signal", b"D": "stuck in the kernel"}.get(letter, "")
    return ""
