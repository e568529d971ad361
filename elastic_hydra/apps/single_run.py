"""`elastic_hydra.main`: a run without `-m` under the elastic agent, like a sweep of one job in Hydra's run directory.

Every app that is decorated imports this module: nothing here imports torch, or all keys, before a run is launched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core import utils
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from elastic_hydra.compat.hydra import configure_hydra_log, hydra_config
from elastic_hydra.compat.hydra_main import main_with
from elastic_hydra.sweeps.start import RUN_DIR, check_start, is_selected, started_by_torchrun

__all__ = ["main", "run_job"]


def run_job(
    *, task_function: TaskFunction, config: DictConfig, hydra_context: HydraContext, **arguments: Any
) -> JobReturn:
    """Do what Hydra's `run_job` does, in workers under an elastic agent if the elastic launcher is selected.

    The arguments, what is returned, and what is raised are those of Hydra's `run_job`.

    Raises:
        SystemExit: with code 2 when the configuration is refused, before anything has started; with 128 plus its
            number when a signal has ended the run.
    """
    # A process that torchrun has started, or that is a worker of another launch, is one of the workers already.
    if not is_selected(config) or started_by_torchrun(os.environ) is not None:
        arguments |= {"task_function": task_function, "config": config, "hydra_context": hydra_context}
        return utils.run_job(**arguments)
    from elastic_hydra.apps.selected import refusals

    with hydra_config(config), refusals():
        _fix_output_dir(config)
        job_return = _launch(task_function, config, hydra_context)
        _log_as_after_a_job(config, hydra_context)
    return job_return


def _launch(task_function: TaskFunction, config: DictConfig, context: HydraContext) -> JobReturn:
    from elastic_hydra.sweeps.sweep import Sweep

    sweep = Sweep(context, task_function, config, single=True)
    try:
        return sweep.run_single()
    finally:
        sweep.close()


def _fix_output_dir(config: DictConfig) -> None:
    """Find out the run's directory, once: what is behind the key may say something else each time it is asked."""
    from elastic_hydra.config.typed import resolved

    folder = os.path.abspath(str(resolved(config.hydra.run, "dir", RUN_DIR)))
    check_start(RUN_DIR, folder)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = folder


def _log_as_after_a_job(config: DictConfig, context: HydraContext) -> None:
    """Have this process log where the job has: so Hydra leaves it, for `on_run_end` and for what follows `main()`."""
    from elastic_hydra.jobs.log_files import append_only

    if Path(str(config.hydra.runtime.output_dir)).is_dir():
        append_only(config)
        configure_hydra_log(config.hydra.job_logging, config, context)


main = main_with(run_job)
