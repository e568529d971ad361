"""What Hydra does to a process before it runs a job, on every supported version."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat import shortcuts
from elastic_hydra.compat.omegaconf import set_parent

__all__ = [
    "call_at_start",
    "configure_hydra_log",
    "get_args_parser",
    "hydra_config",
    "returned",
    "set_hydra_config",
    "without_callbacks",
]


def set_hydra_config(config: DictConfig) -> None:
    """Do what `HydraConfig.set_config` does, but without copying Hydra's configuration twice, which takes 10 ms.

    Args:
        config: a job's configuration, with Hydra's part. Nobody may change this part afterwards: it is not copied.
    """
    if not shortcuts.is_taken("hydra_config"):
        HydraConfig.instance().set_config(config)
        return
    OmegaConf.set_readonly(config.hydra, True)
    holder = OmegaConf.create({}, flags={"no_deepcopy_set_nodes": True})
    holder["hydra"] = config.hydra
    set_parent(config.hydra, config)
    HydraConfig.instance().cfg = holder  # type: ignore[assignment]


@contextlib.contextmanager
def hydra_config(config: DictConfig) -> Iterator[None]:
    """A context in which `${hydra:…}` refers to a job's configuration.

    Args:
        config: see `set_hydra_config`.
    """
    holder = HydraConfig.instance()
    before = holder.cfg
    set_hydra_config(config)
    try:
        yield
    finally:
        holder.cfg = before


def returned(job_return: JobReturn) -> Any:
    """Return what a job has returned or raised, without raising it as `JobReturn.return_value` does."""
    return job_return._return_value


def call_at_start(of_run: Callable[[DictConfig], None], of_multirun: Callable[[DictConfig], None]) -> None:
    """Have functions called whenever Hydra starts a run or a multirun in this process, before the app's callbacks.

    Hydra has no public way to do this in a plugin. A callback in the configuration would be called as well, but Hydra
    1.4 warns of any callback, and refuses those that are not in an app's whitelist.

    Args:
        of_run: called with the configuration when a single run starts.
        of_multirun: called with the configuration when a multirun starts.
    """
    if "elastic_hydra" not in vars(Callbacks):
        callbacks: Any = Callbacks
        callbacks.elastic_hydra = True  # marks that the methods below are replaced: once is enough
        callbacks.on_run_start = _after(of_run, Callbacks.on_run_start)
        callbacks.on_multirun_start = _after(of_multirun, Callbacks.on_multirun_start)


def _after(look: Callable[[DictConfig], None], original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def notify(self: Callbacks, config: DictConfig, **kwargs: Any) -> None:
        look(config)
        original(self, config=config, **kwargs)

    return notify


def without_callbacks(context: HydraContext) -> HydraContext:
    """Return a context like this one whose jobs call no callbacks."""
    copied = copy.copy(context)
    copied.callbacks = Callbacks()
    return copied


def configure_hydra_log(logging_config: DictConfig, config: DictConfig, context: HydraContext) -> None:
    """Configure Python's logging as Hydra does, on 1.3 and 1.4."""
    # Hydra 1.4 has a list of the callables that a logging configuration may name, and must be given this list again.
    allowed = getattr(context, "execution_whitelist", None)
    extra = {} if allowed is None else {"execution_whitelist": allowed}
    configure_log(logging_config, config.hydra.verbose, **extra)
