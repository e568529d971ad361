"""Learn to read handwritten digits with DistributedDataParallel, and return the test accuracy.

An ordinary Hydra app. It runs in one process (`python train.py`), under torchrun, and as a job of the elastic launcher
(`python train.py -m launch=two_workers lr=0.01,0.003`), and does not know which of them it is.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import hydra
import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Train as configured; return the share of test images that are read correctly."""
    device = join_group(cfg.device)
    try:
        return train(cfg, device)
    finally:
        dist.destroy_process_group()


def join_group(wanted: str) -> torch.device:
    """Join the other workers, NCCL on a GPU each and gloo on CPUs, and return this worker's device."""
    enough_gpus = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    use_gpu = wanted == "cuda" or (wanted == "auto" and enough_gpus)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if use_gpu else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend, device_id=device if use_gpu else None)
    else:  # plain `python train.py`: a group of one
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    log.info("rank %d of %d on %s, pid %d", dist.get_rank(), dist.get_world_size(), device, os.getpid())
    return device


def train(cfg: DictConfig, device: torch.device) -> float:
    """Run the epochs that no checkpoint has yet, and measure."""
    torch.manual_seed(cfg.seed)
    train_set, test_set = load_data(cfg.seed, device)
    sampler: DistributedSampler[Any] = DistributedSampler(train_set, seed=cfg.seed)
    batches = DataLoader(train_set, batch_size=max(1, cfg.batch_size // dist.get_world_size()), sampler=sampler)
    model = DistributedDataParallel(build_model(cfg.channels).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)

    checkpoint = Path(HydraConfig.get().runtime.output_dir) / "checkpoint.pt"
    start = resume(checkpoint, model.module, optimizer, device)
    accuracy = evaluate(model, test_set)
    for epoch in range(start, cfg.epochs):
        sampler.set_epoch(epoch)
        for images, digits in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), digits).backward()
            optimizer.step()
        accuracy = evaluate(model, test_set)
        save(checkpoint, epoch + 1, model.module, optimizer)
        log.info("epoch %d: test accuracy %.4f", epoch + 1, accuracy)
    return accuracy


def load_data(seed: int, device: torch.device) -> tuple[TensorDataset, TensorDataset]:
    """Return 1437 training and 360 test scans of 8 by 8 pixels, which come with scikit-learn."""
    scans = load_digits()
    images = torch.tensor(scans.images, dtype=torch.float32, device=device).unsqueeze(1) / 16
    digits = torch.tensor(scans.target, device=device)
    split = train_test_split(range(len(digits)), test_size=0.2, stratify=scans.target, random_state=seed)
    train_rows, test_rows = (torch.tensor(rows, device=device) for rows in split)
    return TensorDataset(images[train_rows], digits[train_rows]), TensorDataset(images[test_rows], digits[test_rows])


def build_model(channels: int) -> nn.Module:
    """Build a small convolutional network."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * 16, 10),
    )


@torch.no_grad()
def evaluate(model: nn.Module, test_set: TensorDataset) -> float:
    """Return the accuracy; each worker reads its share of the test images."""
    images, digits = (tensor[dist.get_rank() :: dist.get_world_size()] for tensor in test_set.tensors)
    right: Tensor = (model(images).argmax(dim=1) == digits).sum()
    dist.all_reduce(right)
    return right.item() / len(test_set)


def save(path: Path, epochs: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint, on rank 0 only. A death in the middle leaves the one before, never half of one."""
    if dist.get_rank() == 0:
        partial = path.with_suffix(".partial")
        torch.save({"epochs": epochs, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)
        os.replace(partial, path)


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """Go on from rank 0's checkpoint, if there is one, on all workers; return the number of finished epochs."""
    found = [torch.load(path, map_location="cpu") if dist.get_rank() == 0 and path.exists() else None]
    dist.broadcast_object_list(found, device=device)
    state = found[0]
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on after epoch %d", state["epochs"])
    return int(state["epochs"])


if __name__ == "__main__":
    main()
