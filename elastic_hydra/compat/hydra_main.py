"""`hydra.main`, whose runs without `-m` may be carried out by another function than Hydra's `run_job`.

Hydra asks a launcher in a multirun only, and has no other place where a plugin could take over a run. Here all code is
Hydra's own, of the installed version: its arguments, help, composition, callbacks of the run, and display of errors.
Two names that this code uses mean something else, for as long as it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hydra
from hydra import version
from hydra.core.utils import JobReturn
from hydra.types import TaskFunction

from elastic_hydra.compat.hydra import get_args_parser
from elastic_hydra.compat.patch import with_globals

__all__ = ["main_with", "run_command_line", "runs_are_taken_over", "taken_over"]

_RunJob = Callable[..., JobReturn]


def main_with(run_job: _RunJob) -> Any:
    """Make a function that is `hydra.main`, but has a run without `-m` carried out by another function.

    Args:
        run_job: takes the keyword arguments of Hydra's `run_job`, and returns what that returns.
    """

    def run_hydra(*, task_function: TaskFunction, caller_stack_depth: int = 2, **arguments: Any) -> None:
        # The name is looked up now: where a worker executes the app's module again, something else stands there.
        module: Any = sys.modules["hydra.main"]  # `hydra.main` itself is the function, not the module
        with taken_over(task_function, run_job):
            # Hydra counts the frames from its own up to the app's; this one is between them.
            module._run_hydra(task_function=task_function, caller_stack_depth=caller_stack_depth + 1, **arguments)

    return with_globals(hydra.main, _run_hydra=run_hydra)


def run_command_line(
    words: Sequence[str], run_job: _RunJob, task_function: TaskFunction, config_dir: str, config_name: str
) -> None:
    """Do what an app that `main_with` has decorated does, given a command line that is not this process's own.

    Args:
        words: as behind the name of the app.
        run_job: as for `main_with`.
        task_function: what the jobs run.
        config_dir: the app's own configuration.
        config_name: the primary one, unless the command line names another one.

    Raises:
        Exception: whatever composing or a job raises. Hydra would print the exception, and end the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra 1.4 has this, and warns of each use
        version.setbase(None)
    utils: Any = importlib.import_module("hydra._internal.utils")
    run_app = with_globals(utils._run_app, run_and_report=_called)
    run_hydra = with_globals(utils._run_hydra, run_and_report=_called, _run_app=run_app)
    parser = get_args_parser()
    arguments = {"args": parser.parse_args(list(words)), "args_parser": parser}
    with taken_over(task_function, run_job):
        run_hydra(task_function=task_function, config_path=config_dir, config_name=config_name, **arguments)


def _called(function: Callable[[], Any]) -> Any:
    return function()


def runs_are_taken_over() -> bool:
    """Whether Hydra has been called by a function that `main_with` has made."""
    return hasattr(_module_of_runs().run_job, "instead_of")


@contextlib.contextmanager
def taken_over(task_function: TaskFunction, run_job: _RunJob) -> Iterator[None]:
    """A context in which another function carries out Hydra's runs of one task function; other runs stay Hydra's."""
    module = _module_of_runs()
    hydras: _RunJob = module.run_job

    def chosen(**arguments: Any) -> JobReturn:
        # A worker that is a fork of this process is in this context, too, and may run another app.
        choice = run_job if arguments["task_function"] is task_function else hydras
        return choice(**arguments)

    replacement: Any = chosen
    replacement.instead_of = hydras
    module.run_job = chosen
    try:
        yield
    finally:
        module.run_job = hydras


def _module_of_runs() -> Any:
    return importlib.import_module("hydra._internal.hydra")
