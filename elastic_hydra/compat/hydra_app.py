"""An app that Python code launches, and not a command line: what its decorator knows, and Hydra's object for it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import (
    compute_search_path_dir,
    create_config_search_path,
    detect_calling_file_or_module_from_task_function,
    detect_task_name,
)
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

__all__ = ["Decoration", "compose_app", "decoration_of", "launch_app", "made_hydra", "name_and_folder"]


@dataclass(frozen=True)
class Decoration:
    """What the decorator of an app knows."""

    task_function: TaskFunction
    config_path: str | None = None
    config_name: str | None = None
    execution_whitelist: Any = None
    """Of Hydra 1.4."""


def decoration_of(app: Callable[..., Any]) -> Decoration:
    """Return what `hydra.main` or `elastic_hydra.main` knows of an app; a plain function is its own task function."""
    function: Any = app
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_name == "decorated_main" and "task_function" in code.co_freevars:
            cells = dict(zip(code.co_freevars, function.__closure__, strict=True))
            return Decoration(**{name: cell.cell_contents for name, cell in cells.items()})
        function = getattr(function, "__wrapped__", None)
    return Decoration(app)


def name_and_folder(decoration: Decoration) -> tuple[str, str | None]:
    """Return an app's name, and where Hydra looks for its configuration: a directory, `pkg://…`, or nowhere.

    `config_path` is relative to the file of the task function. Hydra itself looks for it in packages if somebody has
    imported the app's module, and finds no folder that is no package. A function that stands in no file, as those of
    notebooks, has its own name, and its `config_path` is relative to the working directory.

    Args:
        decoration: of the app.
    """
    file, module = detect_calling_file_or_module_from_task_function(decoration.task_function)
    with contextlib.suppress(TypeError):  # it is no Python function
        source = inspect.getfile(decoration.task_function)
        if os.path.isfile(source):
            file, module = source, None
    if file is not None and not os.path.isfile(file):
        name = getattr(decoration.task_function, "__name__", "app")
        return name, compute_search_path_dir(os.path.join(os.getcwd(), "notebook.ipynb"), None, decoration.config_path)
    return detect_task_name(file, module), compute_search_path_dir(file, module, decoration.config_path)


@contextlib.contextmanager
def made_hydra(name: str, folder: str | None, execution_whitelist: Any) -> Iterator[Hydra]:
    """A context in which there is Hydra's object for an app, in place of one that Python code may have made before.

    Args:
        name: of the app.
        folder: where its configuration is; see `name_and_folder`.
        execution_whitelist: of its decorator.
    """
    if type(version.getbase()) is object:  # Hydra 1.3 has not heard of a version: nobody has called a `hydra.main`
        version.setbase(None)
    GlobalHydra.instance().clear()
    with contextlib.ExitStack() as stack:
        if execution_whitelist is not None:
            policy: Any = importlib.import_module("hydra._internal.execution_policy")
            stack.enter_context(policy.execution_whitelist(execution_whitelist))
        try:
            yield Hydra.create_main_hydra2(name, create_config_search_path(folder))
        finally:
            GlobalHydra.instance().clear()


def compose_app(app: Hydra, config_name: str | None, overrides: list[str], *, single: bool) -> DictConfig:
    """Compose the configuration of a run, or of a multirun before its overrides are split up."""
    mode = RunMode.RUN if single else RunMode.MULTIRUN
    return app.compose_config(config_name, list(overrides), run_mode=mode, with_log_configuration=False)


def launch_app(
    app: Hydra, config_name: str | None, task_function: TaskFunction, overrides: list[str], *, single: bool
) -> None:
    """Run an app, or sweep over it, as Hydra does for a command line.

    Raises:
        Exception: whatever a job has raised, or what keeps Hydra from running it.
    """
    launch = app.run if single else app.multirun
    launch(config_name=config_name, task_function=task_function, overrides=list(overrides))
