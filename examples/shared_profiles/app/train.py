"""An app of the team: its workers add up their shares, and rank 0 returns the sum."""

from __future__ import annotations

import hydra
import torch
import torch.distributed as dist
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> int:
    """Return `x` times the number of workers."""
    dist.init_process_group("gloo")
    try:
        total = torch.tensor(cfg.x)
        dist.all_reduce(total)
        return int(total)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
