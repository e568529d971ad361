"""What the kernel says about memory: limits, peaks, and the processes that its out-of-memory killer has killed."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from elastic_hydra.failures.evidence import MemoryFacts
from elastic_hydra.numa.cgroup import group_memory, oom_kills

__all__ = ["Kills", "count_kills", "memory_facts"]

_KILLED = re.compile(r"[Oo]ut of memory.*?Killed process (\d+) .*?anon-rss:(\d+)kB")


@dataclass(frozen=True)
class Kills:
    """How many processes the kernel has killed for lack of memory up to a moment."""

    cgroup: int | None
    """In this process's control group; None: unknown."""
    host: int | None
    """On this host; None: unknown."""
    time: float
    """The moment, in seconds since the start of the host."""


def count_kills() -> Kills:
    """Count the processes that the kernel has killed until now."""
    return Kills(oom_kills(), _value(Path("/proc/vmstat"), "oom_kill"), _uptime())


def memory_facts(before: Kills, pids: list[int]) -> MemoryFacts:
    """Find out what the kernel says about memory since the workers were started.

    Args:
        before: the count when the workers were started.
        pids: process ids of the workers that were killed.
    """
    now = count_kills()
    scope, kills = "", 0
    for name in ("cgroup", "host"):
        first, last = getattr(before, name), getattr(now, name)
        if first is not None and last is not None and last > first:
            scope, kills = name, last - first
            break
    named = _named_by_kernel(since=before.time)
    victims = tuple(pid for pid in pids if pid in named)
    memory = psutil.virtual_memory()
    group = group_memory()
    limit = None if group.limit is None or group.limit >= memory.total else group.limit  # a larger limit limits nothing
    return MemoryFacts(
        known=bool(named) or (now.cgroup, now.host) != (None, None),
        kills=kills,
        scope=scope,
        killed_pids=victims,
        limit=limit,
        peak=group.peak,
        rss={pid: named[pid] for pid in victims},
        host_total=memory.total,
        host_available=memory.available,
    )


def _value(path: Path, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return None


def _uptime() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return float(Path("/proc/uptime").read_text().split()[0])
    return 0.0


def _named_by_kernel(since: float) -> dict[int, int]:
    """Read from the kernel's log which processes were killed for lack of memory, and how many bytes each of them used.

    Without permission to read the log, the answer is empty.

    Args:
        since: seconds since the start of the host; earlier entries are passed over.
    """
    bytes_of_process: dict[int, int] = {}
    with contextlib.suppress(OSError):
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        try:
            while True:
                try:
                    record = os.read(log, 8192).decode(errors="replace")
                except BrokenPipeError:  # the kernel has overwritten the next records: go on with those behind them
                    continue
                head, _, text = record.partition(";")
                microseconds = head.split(",")[2]
                if int(microseconds) / 1e6 >= since - 1.0 and (match := _KILLED.search(text)):
                    bytes_of_process[int(match[1])] = int(match[2]) * 1024
        except (BlockingIOError, IndexError, ValueError):
            pass  # the log has no further record
        finally:
            os.close(log)
    return bytes_of_process
