"""Learn to read handwritten digits with Lightning, as one process or as the workers of an elastic group."""

from __future__ import annotations

import os
from pathlib import Path

import hydra
import pytorch_lightning as lightning
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Reader(lightning.LightningModule):
    """A small network that reads one digit.

    Args:
        lr: learning rate.
    """

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch."""
        images, digits = batch
        return nn.functional.cross_entropy(self.net(images), digits)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Record the accuracy, over all workers."""
        images, digits = batch
        right = (self.net(images).argmax(dim=1) == digits).float().mean()
        self.log("accuracy", right, sync_dist=True, batch_size=len(digits))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def load_data(batch_size: int, seed: int) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Return batches of 1437 images to train and 360 to test; Lightning gives each worker its share."""
    scans = load_digits()
    images, digits = torch.tensor(scans.images, dtype=torch.float32) / 16, torch.tensor(scans.target)
    rows = train_test_split(range(len(digits)), test_size=0.2, stratify=scans.target, random_state=seed)
    train_set, test_set = (TensorDataset(images[part], digits[part]) for part in rows)
    return DataLoader(train_set, batch_size, shuffle=True), DataLoader(test_set, batch_size)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """Train as configured; return the share of test images that are read correctly."""
    lightning.seed_everything(cfg.seed)
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoints = ModelCheckpoint(folder / "checkpoints", save_last=True)
    trainer = lightning.Trainer(
        accelerator=cfg.accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        max_epochs=cfg.epochs,
        default_root_dir=folder,
        callbacks=[checkpoints],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(Reader(cfg.lr), *load_data(cfg.batch_size, cfg.seed), ckpt_path=last if last.exists() else None)
    return float(trainer.callback_metrics["accuracy"])


if __name__ == "__main__":
    main()
