"""The memory of workers: what a fork shares with its siblings, a new interpreter has for itself."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed.launcher import api as torch_api

from elastic_hydra import LaunchConfig, elastic_launch
from tests.benchmarks.groups import TORCHS_RENDEZVOUS
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

WORKERS = 8
HOW = (
    f"A group of {WORKERS} workers that have multiplied two matrices and wait. PSS, the proportional set size, shares "
    "each page out among the processes that have it; RSS counts it for each. `per worker`: the median of the workers; "
    "`in all`: the sum of the PSS of the workers, the process with the agent and, with elastic_hydra, the server. The "
    "process that launches has torch, Hydra and elastic_hydra imported, and is a fork of one that has them too, which "
    "takes a share of the pages of all its forks."
)


def worker(folder: str) -> None:
    """Compute once, say so, and stay until everybody was looked at."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    Path(folder, os.environ["RANK"]).write_text(str(os.getpid()))
    while not Path(folder, "done").exists():
        time.sleep(0.02)


def _ours(start_method: str, folder: str) -> None:
    elastic_launch(LaunchConfig(1, 1, WORKERS, start_method=start_method, max_restarts=0), worker)(folder)


def _torchs(start_method: str, folder: str) -> None:
    config = torch_api.LaunchConfig(
        1, 1, WORKERS, run_id="benchmark", start_method=start_method, max_restarts=0, **TORCHS_RENDEZVOUS
    )
    torch_api.elastic_launch(config, worker)(folder)


def _measured(launch: Callable[[str], Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:

        def look(pid: int) -> None:
            while len(files := [f for f in Path(folder).iterdir() if f.name.isdigit() and f.read_text()]) < WORKERS:
                time.sleep(0.05)
            workers = [psutil.Process(int(file.read_text())).memory_full_info() for file in files]
            launcher = psutil.Process(pid)
            everybody = [launcher, *launcher.children(recursive=True)]
            found["PSS per worker"] = statistics.median(memory.pss for memory in workers)
            found["RSS per worker"] = statistics.median(memory.rss for memory in workers)
            found["PSS in all"] = sum(process.memory_full_info().pss for process in everybody)
            Path(folder, "done").touch()

        in_child(launch, folder, meanwhile=look)
    return found


def run(rounds: int | None) -> list[Table]:
    """Measure forked and spawned workers."""
    launches: dict[str, Callable[[str], Any]] = {
        "elastic_hydra, warm": partial(_ours, "warm"),
        "elastic_hydra, spawn": partial(_ours, "spawn"),
        "torch, fork": partial(_torchs, "fork"),
        "torch, spawn": partial(_torchs, "spawn"),
    }
    ways = {name: partial(_measured, launch) for name, launch in launches.items()}
    samples = interleave(ways, rounds or 3, warm_up=False)
    columns = [Column(name, "MiB", 2.0**20, digits=1) for name in ("PSS per worker", "RSS per worker", "PSS in all")]
    return [Table("memory", f"{WORKERS} workers that wait", HOW, columns, samples)]
