"""Composes the jobs of a sweep one after the other, and refuses those that cannot be launched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hydra.types import HydraContext
from omegaconf import DictConfig

from elastic_hydra.compat.hydra_loader import foreseen_directories
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.jobs.job import Job
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.resources.host import Host
from elastic_hydra.sweeps.compose import compose, job_of_run, task_yaml
from elastic_hydra.sweeps.directories import Directories
from elastic_hydra.sweeps.resume import History
from elastic_hydra.sweeps.settings import check_same

__all__ = ["Composer"]


class Composer:
    """Composes jobs and checks them: against their hosts, the sweep, each other, and what they were before.

    Args:
        context: Hydra's.
        config: of the sweep, or of a single run.
        settings: the sweep's `hydra.launcher`.
        hosts: on which jobs run, by their names. They may come and go; while there is none, jobs are composed for
            those that were there last.
        history: what an earlier launcher has recorded.
        single: whether it is a single run, which Hydra has composed.
    """

    def __init__(
        self,
        context: HydraContext,
        config: DictConfig,
        settings: DictConfig,
        hosts: Mapping[str, Host],
        history: History,
        *,
        single: bool = False,
    ) -> None:
        self._context = context
        self._config = config
        self._settings = settings
        self._hosts = hosts
        self._last_hosts: list[Host] = []
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
            job = job_of_run(self._context, self._config, self._facts(), num, overrides)
        else:
            job = compose(self._context, self._config, self._facts(), num, overrides, recorded_dir)
        job = self._fitted(job)
        if recorded_dir is not None:
            self._history.check(num, task_yaml(job))
        if self._history.settled(num) is None:
            self._directories.claim(job)
        return job

    def _known_hosts(self) -> list[Host]:
        self._last_hosts = list(self._hosts.values()) or self._last_hosts
        return self._last_hosts

    def _facts(self) -> list[HostFacts]:
        """Return what was found on the hosts; of those that are alike only the one that is there for longest."""
        found: list[HostFacts] = []
        for host in self._known_hosts():
            if host.facts not in found:
                found.append(host.facts)
            elif _is_there_longer(host.facts, found[index := found.index(host.facts)]):
                found[index] = host.facts
        return found

    def _fitted(self, job: Job) -> Job:
        """Fit a job to the first host that can run it."""
        problems: list[NumaError] = []
        for host in self._known_hosts():
            try:
                return replace(job, launch=host.allocator.fitted(job.launch, job.env_set))
            except NumaError as error:  # noqa: PERF203
                problems.append(error)
        raise ConfigError(f"job #{job.num}: {problems[0]}") from problems[0]

    def check_same(self, jobs: list[Job]) -> None:
        """Refuse jobs that change what holds for the whole sweep.

        Raises:
            ConfigError: it names each such key with all its values.
        """
        check_same(self._settings, jobs)


def _is_there_longer(host: HostFacts, other: HostFacts) -> bool:
    return other.time_left is not None and (host.time_left is None or host.time_left > other.time_left)
