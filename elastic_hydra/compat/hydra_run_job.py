"""Hydra's `run_job`, without the copies of configurations that take most of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import AnyNode, DictConfig

from elastic_hydra.compat import shortcuts
from elastic_hydra.compat.hydra import set_hydra_config
from elastic_hydra.compat.omegaconf import set_parent
from elastic_hydra.compat.patch import with_globals

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


def _of_installed_version() -> Callable[..., JobReturn]:
    inner = getattr(utils, "_run_job", None)  # 1.4
    return _light(utils.run_job) if inner is None else with_globals(utils.run_job, _run_job=_light(inner))


_run_job = _of_installed_version()


def run_job(**arguments: Any) -> JobReturn:
    """Do what Hydra's `run_job` does, in the version that is installed; takes the same arguments."""
    if not shortcuts.is_taken("run_job"):
        return utils.run_job(**arguments)
    ret = _run_job(**arguments)
    shown = ret.hydra_cfg
    assert shown is not None
    set_parent(shown.hydra, shown)  # as in a copy; until now it had that of the whole configuration
    return ret
