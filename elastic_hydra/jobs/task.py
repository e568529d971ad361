"""What a worker runs: the user's task function, in the surroundings that Hydra gives it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.singleton import Singleton
from hydra.core.utils import setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from elastic_hydra.compat.hydra import configure_hydra_log, set_hydra_config
from elastic_hydra.jobs.log_files import for_rank
from elastic_hydra.journal import events, writer
from elastic_hydra.supervisor import context, outcome
from elastic_hydra.supervisor.entry import exit_code
from elastic_hydra.supervisor.packed_error import place

__all__ = ["HydraState", "TaskResult", "record_start", "run_task"]

__tracebackhide__ = True


_IMPORTED_LATE = ("torch._dynamo",)
"""What torch imports behind the user's back: the first optimizer of each process waits two seconds for it."""


@dataclass
class TaskResult(outcome.Returned):
    """What a worker's task has returned."""

    imported: list[str] = field(default_factory=list)
    """Slow modules that the worker had to import: the warm server may spare the next ones that."""


def run_task(
    task_function: TaskFunction,
    task_config: DictConfig,
    config: DictConfig,
    context: HydraContext,
    hydra_state: HydraState,
    argv: list[str],
    other_ranks_level: str,
    on_start: Callable[[], None],
) -> TaskResult:
    """Run the task function in a worker.

    Args:
        task_function: the user's.
        task_config: its argument.
        config: the job's whole configuration, for `HydraConfig`.
        context: Hydra's, of the sweep.
        hydra_state: Hydra's singletons, with custom resolvers, for a process that does not have them.
        argv: the launcher's `sys.argv`.
        other_ranks_level: level from which log records of ranks other than 0 go to the console.
        on_start: called by the first worker of a node before the task function.
    """
    sys.argv[:] = argv
    hydra_state.adopt()
    set_hydra_config(config)
    rank = int(os.environ["RANK"])
    logging_config = config.hydra.job_logging
    if rank != 0 and logging_config is not None:
        logging_config = for_rank(logging_config, rank, other_ranks_level, config.hydra.runtime.output_dir)
    configure_hydra_log(logging_config, config, context)
    missing = [name for name in _IMPORTED_LATE if name not in sys.modules]
    value, exited = None, ""
    if os.environ.get("LOCAL_RANK") == "0":
        on_start()
    try:
        value = task_function(task_config)
    except SystemExit as stop:  # many scripts end with `sys.exit(0)`
        if exit_code(stop) != 0:
            raise
        exited = place(stop)
    return TaskResult(value, exited, [name for name in missing if name in sys.modules])


def record_start(journal: Path | None, num: int, attempt: int) -> None:
    """Write into the journal that the workers have begun; where that fails, only a duration is not known.

    Args:
        journal: of the sweep; None: there is none.
        num: the job.
        attempt: its number.
    """
    if journal is None:
        return
    with contextlib.suppress(OSError):
        writer.append(journal, events.WorkersStarted(num=num, attempt=attempt))


class HydraState:
    """Hydra's singletons, for processes that do not have them by being forks of the launcher."""

    def __init__(self) -> None:
        self._singletons = Singleton.get_state()

    def adopt(self) -> None:
        """Give them to this process, if it is not such a fork."""
        setup_globals()
        if not context.current().descends_from_launcher:
            Singleton.set_state(self._singletons)
