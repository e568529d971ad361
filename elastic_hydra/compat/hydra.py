"""What Hydra does to a process before it runs a job, on every supported version."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

__all__ = ["configure_hydra_log", "set_hydra_config"]


def set_hydra_config(config: DictConfig) -> None:
    """Do what `HydraConfig.set_config` does, but without copying Hydra's configuration twice, which takes 10 ms.

    Args:
        config: of a job; what is below its `hydra` stays as it is while it is set.
    """
    OmegaConf.set_readonly(config.hydra, True)
    shown = OmegaConf.create({}, flags={"no_deepcopy_set_nodes": True})
    shown["hydra"] = config.hydra
    config.hydra._set_parent(config)  # where its interpolations look
    HydraConfig.instance().cfg = shown  # type: ignore[assignment]


def configure_hydra_log(logging_config: DictConfig, config: DictConfig, context: HydraContext) -> None:
    """Configure Python's logging as Hydra does, on 1.3 and 1.4."""
    # Only 1.4 has, and wants back, a list of callables that the logging configuration may name.
    allowed = getattr(context, "execution_whitelist", None)
    extra = {} if allowed is None else {"execution_whitelist": allowed}
    configure_log(logging_config, config.hydra.verbose, **extra)
