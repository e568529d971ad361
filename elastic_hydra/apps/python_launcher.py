"""The main function of a launcher that Python code has started: a process of its own, as a command line would be.

::

    the caller ── server ── launcher ── server ── agents, workers

So the caller's signal handlers, logging, working directory and Hydra's singletons stay what they are, whatever threads
it runs. When the caller ends, its server ends the launcher, which stops its jobs in order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import TaskFunction

from elastic_hydra.apps import single_run
from elastic_hydra.compat.hydra import hydra_config
from elastic_hydra.compat.hydra_app import compose_app, launch_app, made_hydra
from elastic_hydra.compat.hydra_main import taken_over
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.jobs.task import HydraState
from elastic_hydra.supervisor import outcome
from elastic_hydra.supervisor.packed_error import PackedError, pack
from elastic_hydra.sweeps.rerun import override
from elastic_hydra.sweeps.start import RUN_DIR, SWEEP_DIR, is_selected

__all__ = ["THREADS", "App", "Order", "launch"]

THREADS = "OMP_NUM_THREADS"
"""The variable that says how many threads the pools of a new process have."""


@dataclass(frozen=True)
class App:
    """What is launched."""

    task_function: TaskFunction
    name: str
    """`hydra.job.name`."""
    config_folder: str | None
    """A directory, `pkg://…`, or nowhere."""
    config_name: str | None
    execution_whitelist: Any
    """Of Hydra 1.4's decorator."""


@dataclass(frozen=True)
class Order:
    """What the caller asks for."""

    app: App
    overrides: list[str]
    """As on a command line."""
    single: bool
    """Whether it is one run, and no sweep."""
    announcement: Path
    """The file that will have the directory of the sweep or the run, before anything starts there."""
    threads: str | None
    """`OMP_NUM_THREADS` of the caller; None: it has none."""


def launch(order: Order, hydra_state: HydraState) -> PackedError | None:
    """Run an app, or sweep over it.

    Args:
        order: what the caller asks for.
        hydra_state: the caller's.

    Returns:
        why it was refused, what a job has raised, or what keeps Hydra from running it; None: all jobs have finished.
    """
    hydra_state.adopt()
    _take_environment(order.threads)
    try:
        _launch(order)
    except SystemExit as stop:
        if not isinstance(stop.__cause__, ConfigError):
            raise
        return pack(stop.__cause__)
    except Exception as error:
        return pack(error)  # the caller shows it
    return None


def _take_environment(threads: str | None) -> None:
    """Have the environment that the caller has, without what concerned the start of this process."""
    os.environ.pop(outcome.ANNOUNCED, None)
    os.environ.pop(THREADS, None)
    if threads is not None:
        os.environ[THREADS] = threads


def _launch(order: Order) -> None:
    app, single = order.app, order.single
    with made_hydra(app.name, app.config_folder, app.execution_whitelist) as hydra:
        overrides = _with_launcher(hydra, app.config_name, order.overrides, single)
        config = compose_app(hydra, app.config_name, overrides, single=single)
        with hydra_config(config):
            folder = os.path.abspath(config.hydra.run.dir if single else config.hydra.sweep.dir)
        _announce(folder, order.announcement)
        overrides = [*overrides, override(RUN_DIR if single else SWEEP_DIR, folder)]
        with taken_over(app.task_function, single_run.run_job):
            launch_app(hydra, app.config_name, app.task_function, overrides, single=single)


def _with_launcher(hydra: Any, config_name: str | None, overrides: list[str], single: bool) -> list[str]:
    """Add the override that selects the elastic launcher, unless the configuration or an override does.

    Raises:
        ConfigError: an override selects another launcher.
    """
    # Hydra would refuse keys of a launcher that is not selected yet.
    others = [word for word in overrides if not word.lstrip("+~").startswith("hydra.launcher.")]
    config = compose_app(hydra, config_name, others, single=single)
    if is_selected(config):
        return overrides
    for word in overrides:
        if word.lstrip("+").startswith("hydra/launcher="):
            raise ConfigError(f"{word}: what Python code launches needs the elastic launcher; leave this override out")
    return ["hydra/launcher=elastic", *overrides]


def _announce(folder: str, announcement: Path) -> None:
    written = announcement.with_suffix(".part")
    written.write_text(folder)
    written.rename(announcement)
