"""Groups of many workers."""

from __future__ import annotations

import os
import time

from elastic_hydra import LaunchConfig, elastic_launch
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

SIZES = (1, 2, 4, 8, 16, 32, 64)
HOW = (
    "Groups of workers that only return, without a process group: from the call of elastic_launch (warm) to its "
    "return, server and agent included; `per worker` is that divided by the number of workers. The floor forks so many "
    "processes that end at once, and waits for them. Each measurement in a fork of a warm process."
)


def worker() -> None:
    """Do nothing."""


def _ours(size: int) -> float:
    start = time.monotonic()
    elastic_launch(LaunchConfig(1, 1, size, start_method="warm", max_restarts=0), worker)()
    return time.monotonic() - start


def _floor(size: int) -> float:
    start = time.monotonic()
    pids = []
    for _ in range(size):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    return time.monotonic() - start


def _both(size: int) -> dict[str, float]:
    floor, ours = in_child(_floor, size).value, in_child(_ours, size)
    return {
        "total": ours.value,
        "per worker": ours.value / size,
        "CPU per worker": ours.cpu / size,
        "floor per worker": floor / size,
    }


def run(rounds: int | None) -> list[Table]:
    """Measure all sizes."""
    ways = {f"{size} worker{'s' if size > 1 else ''}": lambda size=size: _both(size) for size in SIZES}
    samples = interleave(ways, rounds or 5)
    columns = [
        Column(name, "ms", 1e-3, digits=1) for name in ("total", "per worker", "CPU per worker", "floor per worker")
    ]
    return [Table("workers", "a group of many workers, from the call to its return", HOW, columns, samples)]
