"""Whether a sweep may start as it was started: how this process came to be, and where the sweep is going to write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat import shortcuts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.jobs.folders import refuse_unwritable

__all__ = ["RUN_DIR", "SWEEP_DIR", "check_start", "is_selected", "started_by_torchrun"]

SWEEP_DIR = "hydra.sweep.dir"
"""The key of a sweep's directory."""
RUN_DIR = "hydra.run.dir"
"""The key of the directory of a single run."""

_TARGET = "hydra_plugins.elastic_hydra_launcher.launcher.ElasticLauncher"


def is_selected(config: DictConfig) -> bool:
    """Whether a configuration has selected the elastic launcher.

    Args:
        config: with Hydra's part.
    """
    return bool(OmegaConf.select(config, "hydra.launcher._target_") == _TARGET)


def check_start(key: str, folder: str) -> None:
    """Refuse a sweep that torchrun has started several times, or whose environment or directory will not do.

    Args:
        key: that names the directory: `SWEEP_DIR` or `RUN_DIR`.
        folder: the directory.

    Raises:
        ConfigError: with what to do.
    """
    try:
        shortcuts.check_variable()
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rank = started_by_torchrun(os.environ)
    if rank is not None:
        raise ConfigError(
            f"RANK is set ({rank}): torchrun has started this sweep once per rank. Start it without torchrun: "
            "hydra/launcher=elastic starts the workers itself (hydra.launcher.nproc_per_node, hydra.launcher.nodes)"
        )
    refuse_unwritable(key, folder, Path(os.path.abspath(folder)))


def started_by_torchrun(environ: Mapping[str, str]) -> str | None:
    """Return the rank of this process among several that torchrun or the like has started; None: it is alone.

    RANK by itself says little: operators of clusters set it for whole nodes, on which launchers are started.
    """
    if "LOCAL_RANK" in environ and "RANK" in environ and environ.get("WORLD_SIZE") != "1":
        return environ["RANK"]
    return None
