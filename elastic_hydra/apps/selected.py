"""What is said when an app that has selected the launcher starts, before Hydra makes a launcher, or makes none.

Hydra calls nothing of a launcher's in a run without `-m`, and resolves its keys before it is made. A callback in the
configuration would hear of both, but Hydra 1.4 warns of any callback, and refuses those that an app's whitelist lacks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator

from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat.hydra import call_at_start
from elastic_hydra.compat.hydra_main import runs_are_taken_over
from elastic_hydra.compat.omegaconf import node_at
from elastic_hydra.compat.versions import hydra_resolves_groups_of_launchers
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.spelling import complaint
from elastic_hydra.config.typed import check_resolvable
from elastic_hydra.sweeps.start import is_selected, started_by_torchrun

__all__ = ["check_at_start", "refusals", "watch_start"]

log = logging.getLogger("elastic_hydra")


_further_checks: list[Callable[[DictConfig], None]] = []


def check_at_start(check: Callable[[DictConfig], None]) -> None:
    """Have a configuration checked before all else when a run or a sweep starts.

    Args:
        check: called with the configuration; it raises a `ConfigError`.
    """
    _further_checks.append(check)


def watch_start() -> None:
    """See to the starts of this process's app from now on; other apps on the machine are left alone."""
    call_at_start(_if_selected(_look_at_run), _if_selected(_look_at_multirun))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Print why a configuration is refused, and end with 2.

    Hydra ends with 1 for any exception, which would say that a job has failed.

    Raises:
        SystemExit: with code 2, where a `ConfigError` was raised.
    """
    try:
        yield
    except ConfigError as error:
        print(complaint(str(error)), file=sys.stderr)
        raise SystemExit(2) from error


def _if_selected(look: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    def look_if_selected(config: DictConfig) -> None:
        if is_selected(config):
            with refusals():
                for check in _further_checks:
                    check(config)
            look(config)

    return look_if_selected


def _look_at_run(config: DictConfig) -> None:
    rank = started_by_torchrun(os.environ)
    if rank is None and runs_are_taken_over():
        _detach_if_asked(config, single=True)
    elif rank is None:
        log.warning(
            "hydra/launcher=elastic is not used: without -m (--multirun) Hydra runs the task function in this process. "
            "To launch its workers, decorate it with @elastic_hydra.main in place of @hydra.main, or add -m"
        )
    elif rank == "0":
        log.warning(
            "hydra/launcher=elastic is not used: RANK is set, since torchrun has started this process. To have the "
            "launcher start the workers, start it without torchrun, and with -m (--multirun) or @elastic_hydra.main"
        )


def _look_at_multirun(config: DictConfig) -> None:
    _check_interpolations(config)
    _detach_if_asked(config, single=False)


def _detach_if_asked(config: DictConfig, *, single: bool) -> None:
    if OmegaConf.select(config, "hydra.launcher.detach"):
        from elastic_hydra.apps.detach import detach_if_asked

        with refusals():
            detach_if_asked(config, single=single)


def _check_interpolations(config: DictConfig) -> None:
    """Name the keys that Hydra is about to resolve in vain: it says which key it looked for, but not for which one."""
    launcher, names = config.hydra.launcher, None
    if not hydra_resolves_groups_of_launchers():  # it leaves to the jobs what stands in a group
        names = [key for key in launcher if not OmegaConf.is_config(node_at(launcher, key))]
    problems = Problems()
    check_resolvable(launcher, problems, names=names)
    with refusals():
        problems.raise_any()
