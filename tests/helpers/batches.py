"""Batches of jobs launched from this process, as a sweeper does it, to look at what the launcher returns."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

# Hydra 1.4 registers what plugins store when it first looks for them; later is too late for its test fixtures.
Plugins.instance()


def launch(
    task: Callable[[Any], Any], folder: Path, *overrides: str, jobs: Sequence[Sequence[str]] = ((),)
) -> list[JobReturn]:
    """Launch one batch.

    Args:
        task: the task function.
        folder: of the sweep.
        overrides: for all jobs.
        jobs: the overrides of each job.
    """
    with sweep(task, folder, *overrides) as launch_batch:
        return launch_batch(*jobs)


@contextlib.contextmanager
def sweep(task: Callable[[Any], Any], folder: Path, *overrides: str) -> Iterator[Callable[..., list[JobReturn]]]:
    """Begin a sweep; its batches are launched by calling what this gives with the overrides of each job.

    Args:
        task: the task function.
        folder: of the sweep.
        overrides: for all jobs.
    """
    before = copy.deepcopy(Singleton.get_state())
    try:
        yield _launcher(task, folder, overrides)
    finally:
        Singleton.set_state(before)


def _launcher(task: Callable[[Any], Any], folder: Path, overrides: Sequence[str]) -> Callable[..., list[JobReturn]]:
    hydra_ = Hydra.create_main_hydra2(task_name="task", config_search_path=create_config_search_path(None))
    config = hydra_.compose_config(
        config_name=None,
        overrides=["hydra/launcher=elastic", f"hydra.sweep.dir={folder}", *overrides],
        run_mode=RunMode.MULTIRUN,
    )
    context = HydraContext(config_loader=hydra_.config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    common: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # as Hydra's sweepers do
    done = 0

    def launch_batch(*jobs: Sequence[str]) -> list[JobReturn]:
        nonlocal done
        first, done = done, done + len(jobs)
        return list(launcher.launch([[*common, *job] for job in jobs], first))

    return launch_batch


@contextlib.contextmanager
def nobody_stays() -> Iterator[None]:
    """Check that nobody is left whom this process or one of its own has started meanwhile."""
    before = set(psutil.Process().children(recursive=True))
    yield
    gc.collect()
    left = set(psutil.Process().children(recursive=True)) - before
    assert not left


def notes(error: BaseException) -> str:
    """Return what was added to an exception's message, where this Python can."""
    return "\n".join(getattr(error, "__notes__", ()))


def rank() -> int:
    """Return the rank of this worker."""
    return int(os.environ["RANK"])
