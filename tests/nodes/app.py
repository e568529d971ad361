"""The Hydra app that these tests run on several nodes; what its workers see is written to a file, a line per event."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
import torch.distributed as dist
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig


@dataclass
class Config:
    """What the workers do."""

    what: str = "meet"
    steps: int = 1
    pause: float = 0.05
    fail_on: str = ""


ConfigStore.instance().store(name="nodes_app", node=Config)


def note(event: str, **fields: Any) -> None:
    """Write one line about this worker into the file that the test reads."""
    line = {
        "event": event,
        "at": time.time(),
        "host": os.environ["NODES_HOST"],
        "rank": int(os.environ["RANK"]),
        "world": int(os.environ["WORLD_SIZE"]),
        "pid": os.getpid(),
        "agent": os.getppid(),
        **fields,
    }
    with open(os.environ["NODES_EVENTS"], "a") as file:
        file.write(json.dumps(line) + "\n")


def meet(cfg: Config) -> int:
    """Check that all workers are of the same job, and return how many they are."""
    dist.init_process_group("gloo")
    jobs: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(jobs, [HydraConfig.get().job.num, cfg.what, cfg.steps, cfg.fail_on])
    assert jobs == [jobs[0]] * len(jobs), jobs
    for _ in range(cfg.steps):
        dist.all_reduce(torch.ones(1))
        time.sleep(cfg.pause)
    if cfg.fail_on == os.environ["NODES_HOST"]:
        raise ValueError(f"told to fail on {cfg.fail_on}")
    dist.barrier()
    note("met", job=HydraConfig.get().job.num)
    dist.destroy_process_group()
    return len(jobs)


def train(steps: int, pause: float) -> int:
    """Count steps together with the others, from the checkpoint on; return how many there are."""
    dist.init_process_group("gloo")
    checkpoint = Path(os.environ["NODES_CHECKPOINT"])
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    shared = torch.tensor([done])
    dist.broadcast(shared, 0)
    done = int(shared)
    note("training", step=done)
    while done < steps and not os.path.exists(os.environ["NODES_CHECKPOINT"] + ".stop"):
        count = torch.ones(1)
        dist.all_reduce(count)
        assert int(count) == dist.get_world_size()
        done += 1
        if dist.get_rank() == 0:
            temporary = checkpoint.with_suffix(f".{os.getpid()}")
            temporary.write_text(str(done))
            temporary.replace(checkpoint)
        time.sleep(pause)
        stop = torch.tensor([int(os.path.exists(os.environ["NODES_CHECKPOINT"] + ".stop"))])
        dist.all_reduce(stop)
        if int(stop):
            break
    note("trained", step=done)
    dist.destroy_process_group()
    return done


def once(cfg: Config) -> Any:
    """Fail on one node in the first attempt, when the other node's worker has ended well."""
    other_is_done = Path(os.environ["NODES_CHECKPOINT"])
    note("once")
    if Path(os.environ["NODES_EVENTS"]).read_text().count('"once"') > 1:
        return None
    if cfg.fail_on != os.environ["NODES_HOST"]:
        atexit.register(other_is_done.touch)
        return None
    while not other_is_done.exists():
        time.sleep(0.01)
    raise ValueError(f"told to fail on {cfg.fail_on}")


def alone(cfg: Config) -> str:
    """Have nothing to do with the other nodes: fail, hang, or end at once."""
    note("alone")
    if cfg.fail_on == os.environ["NODES_HOST"]:
        raise ValueError(f"told to fail on {cfg.fail_on}")
    if cfg.what == "hang":
        time.sleep(600)
    return os.environ["NODES_HOST"]


@hydra.main(version_base=None, config_name="nodes_app")
def main(cfg: Config) -> Any:
    """Do what the configuration says."""
    if cfg.what == "meet":
        return meet(cfg)
    if cfg.what == "train":
        return train(cfg.steps, cfg.pause)
    if cfg.what == "once":
        return once(cfg)
    return alone(cfg)


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:  # as a script under an agent, without Hydra
        train(100_000, 0.05)
    else:
        main()
