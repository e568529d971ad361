"""Composes the jobs of a sweep one after the other, and refuses those that cannot be launched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hydra.types import HydraContext
from omegaconf import DictConfig

from elastic_hydra.compat.hydra_loader import foreseen_directories
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.jobs.job import Job
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.resources.allocator import Allocator
from elastic_hydra.sweeps.compose import compose, job_of_run, task_yaml
from elastic_hydra.sweeps.directories import Directories
from elastic_hydra.sweeps.resume import History
from elastic_hydra.sweeps.settings import check_same

__all__ = ["Composer"]


class Composer:
    """Composes jobs and checks them: against their host, the sweep, each other, and what they were before.

    Args:
        context: Hydra's.
        config: of the sweep, or of a single run.
        settings: the sweep's `hydra.launcher`.
        facts: of the host on which jobs run.
        allocator: gives that host to jobs.
        history: what an earlier launcher has recorded.
        single: whether it is a single run, which Hydra has composed.
    """

    def __init__(
        self,
        context: HydraContext,
        config: DictConfig,
        settings: DictConfig,
        facts: HostFacts,
        allocator: Allocator,
        history: History,
        *,
        single: bool = False,
    ) -> None:
        self._context = context
        self._config = config
        self._settings = settings
        self._facts = facts
        self._allocator = allocator
        self._history = history
        self._single = single
        self._directories = Directories(history.recorded)

    def foresee(self, planned: Iterable[tuple[int, list[str]]]) -> None:
        """Refuse jobs that are going to have one directory, before any of them is composed.

        Args:
            planned: numbers and overrides.

        Raises:
            ConfigError: two have the same.
        """
        new = ((num, overrides) for num, overrides in planned if num not in self._history.recorded)
        self._directories.foresee(new, foreseen_directories(self._context.config_loader))

    def compose(self, num: int, overrides: list[str]) -> Job:
        """Compose a job.

        Args:
            num: its number.
            overrides: the job's.

        Raises:
            ConfigError: it cannot be launched as configured.
        """
        recorded_dir = self._history.output_dir(num)
        if self._single:
            job = job_of_run(self._context, self._config, self._facts, num, overrides)
        else:
            job = compose(self._context, self._config, self._facts, num, overrides, recorded_dir)
        try:
            job = replace(job, launch=self._allocator.fitted(job.launch, job.env_set))
        except NumaError as error:
            raise ConfigError(f"job #{job.num}: {error}") from error
        if recorded_dir is not None:
            self._history.check(num, task_yaml(job))
        if self._history.settled(num) is None:
            self._directories.claim(job)
        return job

    def check_same(self, jobs: list[Job]) -> None:
        """Refuse jobs that change what holds for the whole sweep.

        Raises:
            ConfigError: it names each such key with all its values.
        """
        check_same(self._settings, jobs)
