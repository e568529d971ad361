"""What an agent costs while its workers run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from torch.distributed.launcher import api as torch_api

from elastic_hydra import LaunchConfig, elastic_launch
from tests.benchmarks.groups import TORCHS_RENDEZVOUS
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

SECONDS = 5.0
HOW = (
    f"Workers that sleep; over {SECONDS:g} s the CPU time of the process with the agent and, with elastic_hydra, of "
    "the server, as the kernel's scheduler counts it (/proc/…/schedstat). The workers' own is not in it. torch's agent "
    "looks every 0.1 s, its default, and meets by c10d, which sends a sign of life every 5 s."
)


def worker(folder: str) -> None:
    """Say that it runs, and sleep."""
    Path(folder, os.environ["RANK"]).touch()
    time.sleep(SECONDS + 3.0)


def _ours(size: int, folder: str) -> None:
    elastic_launch(LaunchConfig(1, 1, size, start_method="warm", max_restarts=0), worker)(folder)


def _torchs(size: int, folder: str) -> None:
    config = torch_api.LaunchConfig(
        1, 1, size, run_id="benchmark", start_method="fork", max_restarts=0, **TORCHS_RENDEZVOUS
    )
    torch_api.elastic_launch(config, worker)(folder)


def _used(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(path.read_text().split()[0])
    return total / 1e9


def _measured(launch: Callable[[int, str], Any], size: int, has_server: bool) -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:

        def look(pid: int) -> None:
            while len(list(Path(folder).iterdir())) < size:
                time.sleep(0.05)
            time.sleep(1.0)
            pids = [pid, *(p.pid for p in psutil.Process(pid).children())] if has_server else [pid]
            before, start = _used(pids), time.monotonic()
            time.sleep(SECONDS)
            found["of one CPU"] = (_used(pids) - before) / (time.monotonic() - start)

        in_child(launch, size, folder, meanwhile=look)
    return found


def run(rounds: int | None) -> list[Table]:
    """Measure both agents with few and many workers."""
    ways = {}
    for size in (2, 64):
        ways[f"elastic_hydra, {size} workers"] = partial(_measured, _ours, size, True)
        ways[f"torch, fork, {size} workers"] = partial(_measured, _torchs, size, False)
    samples = interleave(ways, rounds or 3, warm_up=False)
    return [Table("idle", "an agent whose workers run", HOW, [Column("of one CPU", "%", 1e-2, digits=3)], samples)]
