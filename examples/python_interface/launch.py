"""Fit a line with workers that are started from an ordinary Python program."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from elastic_hydra import LaunchConfig, elastic_launch


def fit(steps: int, lr: float) -> float:
    """Fit `y = 3 x` by gradient descent, each worker on points of its own; return the slope.

    Args:
        steps: of descent.
        lr: length of a step.

    Raises:
        ArithmeticError: the descent has left the numbers, because `lr` is too large.
    """
    dist.init_process_group("gloo")
    try:
        x = torch.rand(100, generator=torch.Generator().manual_seed(dist.get_rank()))
        slope = torch.zeros(())
        for _ in range(steps):
            gradient = (2 * (slope - 3) * x * x).mean()
            dist.all_reduce(gradient)
            slope -= lr * gradient / dist.get_world_size()
        if not slope.isfinite():
            raise ArithmeticError(f"lr={lr} is too large")
        return slope.item()
    finally:
        dist.destroy_process_group()


def main() -> None:
    """Fit twice: once as it should be, and once with a step that is too long."""
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, max_restarts=0, start_method="warm")
    slopes = elastic_launch(config, fit)(200, 0.5)
    print({rank: round(slope, 3) for rank, slope in sorted(slopes.items())})
    try:
        elastic_launch(config, fit)(200, 50.0)
    except ChildFailedError as error:
        print(f"failed: {error.__cause__!r}")


if __name__ == "__main__":
    main()
