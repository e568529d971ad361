"""The Hydra app that the benchmarks sweep over: jobs that do nothing, or one thing that takes a known time.

With `RANK` in the environment, which torchrun and the elastic launcher set, the workers of a job meet once.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import hydra
import torch
import torch.distributed as dist
from hydra.core.config_store import ConfigStore


@dataclass
class Config:
    """What a job does."""

    n: int = 0
    """Only to sweep over."""
    seconds: float = 0.0
    """How long it sleeps."""
    loops: int = 0
    """How long it computes."""


ConfigStore.instance().store(name="config", node=Config)


def compute(loops: int) -> int:
    """Keep one CPU busy."""
    total = 0
    for i in range(loops):
        total += i * i & 7
    return total


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config: Config) -> float:
    """Run one job in one of its workers."""
    _as_submitit_says()
    value = torch.ones(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
        dist.all_reduce(value)
        dist.destroy_process_group()
    time.sleep(config.seconds)
    compute(config.loops)
    return float(value)


def _as_submitit_says() -> None:
    """Submitit leaves it to the app how the tasks of a job meet."""
    if int(os.environ.get("SUBMITIT_LOCAL_NTASKS", "1")) > 1:
        job = os.environ["SUBMITIT_LOCAL_JOB_ID"]
        os.environ["WORLD_SIZE"] = os.environ["SUBMITIT_LOCAL_NTASKS"]
        os.environ["RANK"] = os.environ["SUBMITIT_LOCAL_GLOBALID"]
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(20000 + int(job) % 10000)


if __name__ == "__main__":
    main()
