"""What thread counts and bindings are worth to a training step on this machine."""

from __future__ import annotations

import os
import statistics
import time
from functools import partial

import torch
import torch.distributed as dist

from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.config.numa import Cpus, Memory, NumaConfig
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

STEPS = 20
HOW = (
    "One step: forward and backward of four Linear(1024) with a batch of 256, then a gloo all-reduce of the 17 MB of "
    f"gradients; the median of {STEPS} steps after 3 to warm up, on rank 0. `one thread`: torchrun's default for two "
    "workers; `all CPUs each`: what torch's elastic_launch leaves; `CPUs / workers`: ours, unbound; `bound`: ours with "
    "numa=spread. On a machine with one NUMA node a binding can show nothing but that it does not hurt."
)


def _steps() -> float:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(4)))
    batch, taken = torch.randn(256, 1024), []
    for _ in range(3 + STEPS):
        start = time.perf_counter()
        model.zero_grad()
        model(batch).square().mean().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        dist.all_reduce(gradients)
        taken.append(time.perf_counter() - start)
    dist.destroy_process_group()
    return statistics.median(taken[3:])


def _launched(workers: int, threads: int | None, numa: NumaConfig | None) -> dict[str, float]:
    def launch() -> float:
        environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        config = LaunchConfig(1, 1, workers, start_method="warm", max_restarts=0, worker_env=environment, numa=numa)
        return float(elastic_launch(config, _steps)()[0])

    return {"step": in_child(launch).value}


def run(rounds: int | None) -> list[Table]:
    """Measure one worker, and two."""
    cpus = len(os.sched_getaffinity(0))
    ways = {}
    for workers in (1, 2):
        share = max(1, cpus // workers)
        what = f"{workers} worker{'s' * (workers > 1)}"
        ways[f"{what}, one thread"] = partial(_launched, workers, 1, None)
        ways[f"{what}, all CPUs each"] = partial(_launched, workers, cpus, None)
        ways[f"{what}, CPUs / workers"] = partial(_launched, workers, share, None)
        ways[f"{what}, bound"] = partial(
            _launched, workers, None, NumaConfig(cpus=Cpus.spread, memory=Memory.preferred)
        )
    samples = interleave(ways, rounds or 5)
    return [Table("bound", "a training step", HOW, [Column("step", "ms", 1e-3)], samples)]
