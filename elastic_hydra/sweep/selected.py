"""What is said when an app that has selected the launcher starts, before Hydra makes a launcher, or makes none.

Hydra calls nothing of a launcher's in a run without `-m`, and resolves its keys before it is made. A callback in the
configuration would hear of both, but Hydra 1.4 warns of any callback, and refuses those that an app's whitelist lacks.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra._internal.callbacks import Callbacks
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.typed import check_resolvable
from elastic_hydra.sweep.start import started_by_torchrun

__all__ = ["refuse", "watch_start"]

log = logging.getLogger("elastic_hydra")

_TARGET = "hydra_plugins.elastic_hydra_launcher.launcher.ElasticLauncher"


def watch_start() -> None:
    """See to the starts of this process's app from now on; other apps on the machine are left alone."""
    if "elastic_hydra" not in vars(Callbacks):
        made: Any = Callbacks
        made.elastic_hydra = True
        made.on_run_start = _first(_warn_of_single_run, Callbacks.on_run_start)
        made.on_multirun_start = _first(_check_interpolations, Callbacks.on_multirun_start)


def refuse(error: ConfigError) -> SystemExit:
    """Print why a configuration is refused, and return what to raise.

    Args:
        error: the reason.

    Returns:
        an end with 2: Hydra ends with 1 for any exception, which would say that a job has failed.
    """
    print(error, file=sys.stderr)
    return SystemExit(2)


def _first(look: Callable[[DictConfig], None], original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def notify(self: Callbacks, config: DictConfig, **kwargs: Any) -> None:
        if OmegaConf.select(config, "hydra.launcher._target_") == _TARGET:
            look(config)
        original(self, config=config, **kwargs)

    return notify


def _warn_of_single_run(config: DictConfig) -> None:
    rank = started_by_torchrun(os.environ)
    if rank is None:
        log.warning(
            "hydra/launcher=elastic is not used: without -m (--multirun) Hydra runs the task function in this process. "
            "Add -m to launch its workers, also for a single job"
        )
    elif rank == "0":
        log.warning(
            "hydra/launcher=elastic is not used: RANK is set, since torchrun has started this process. To have the "
            "launcher start the workers, start it without torchrun, and with -m (--multirun)"
        )


def _check_interpolations(config: DictConfig) -> None:
    """Name the keys that Hydra is about to resolve in vain: it says which key it looked for, but not for which one."""
    launcher, names = config.hydra.launcher, None
    if not hydra.__version__.startswith("1.3."):  # later versions leave to the jobs what stands in a group
        names = [key for key in launcher if not OmegaConf.is_config(launcher._get_node(key))]
    problems = Problems()
    check_resolvable(launcher, problems, names=names)
    try:
        problems.raise_any()
    except ConfigError as error:
        raise refuse(error) from error
