"""Hydra's `run_job`, without the copies of configurations that take most of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from omegaconf import AnyNode, DictConfig

from elastic_hydra.launcher.seam import with_globals
from elastic_hydra.sweep.task import set_hydra_config

__all__ = ["run_job"]


class _LightHydraConfig:
    """Stands for `HydraConfig` in `run_job`, which sets the same configuration twice: two copies, 10 ms."""

    @staticmethod
    def instance() -> _LightHydraConfig:
        return _LightHydraConfig()

    @staticmethod
    def set_config(config: DictConfig) -> None:
        set_hydra_config(config)

    @property
    def cfg(self) -> Any:
        return HydraConfig.instance().cfg

    @cfg.setter
    def cfg(self, config: Any) -> None:
        HydraConfig.instance().cfg = config


class _LightCopy:
    """Stands for `copy` in `run_job`, which copies Hydra's part twice: once to drop it, once for the return; 12 ms."""

    @staticmethod
    def deepcopy(config: Any) -> Any:
        if config is HydraConfig.instance().cfg:
            return config  # nobody changes it: it is read-only
        nodes = config.__dict__["_content"]
        config.__dict__["_content"] = {key: node for key, node in nodes.items() if key != "hydra"}
        try:
            made = copy.deepcopy(config)
        finally:
            config.__dict__["_content"] = nodes
        made.__dict__["_content"]["hydra"] = AnyNode()  # what is going to be dropped
        return made


def _light(function: Callable[..., Any]) -> Callable[..., Any]:
    return with_globals(function, HydraConfig=_LightHydraConfig, copy=_LightCopy)


run_job = _light(utils.run_job)
"""Hydra's `run_job`, in the version that is installed."""
if (inner := getattr(utils, "_run_job", None)) is not None:  # 1.4
    run_job = with_globals(utils.run_job, _run_job=_light(inner))
