"""Whose each output directory is: no two jobs of a sweep write into the same one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.jobs.job import Job
from elastic_hydra.journal.reader import Record
from elastic_hydra.sweeps.summary import known_as

__all__ = ["Directories"]


class Directories:
    """The output directories of a sweep's jobs, those of all its batches and those that are recorded.

    Args:
        record: of the sweep that is resumed; empty when it is a new one.
    """

    def __init__(self, record: Record) -> None:
        self._owners: dict[str, tuple[int, Sequence[str]]] = {}
        for job in record.values():
            self._owners.setdefault(job.dir, (job.num, job.overrides))

    def foresee(self, planned: Iterable[tuple[int, list[str]]], foreseen: Mapping[tuple[str, ...], str]) -> None:
        """Refuse jobs that are going to have one directory, before any of them starts.

        Args:
            planned: numbers and overrides of new jobs.
            foreseen: where they are going to write, as far as that is known, by their overrides.

        Raises:
            ConfigError: two have the same.
        """
        owners: dict[str, tuple[int, Sequence[str]]] = {}
        for num, overrides in planned:
            directory = foreseen.get(tuple(overrides))
            if directory is not None:
                owner = self._owners.get(directory) or owners.setdefault(directory, (num, overrides))
                _refuse_another(owner, num, overrides, directory)

    def claim(self, job: Job) -> None:
        """Take a job's directory for it.

        Args:
            job: one that is to be run.

        Raises:
            ConfigError: the directory is another job's.
        """
        directory = str(job.output_dir)
        owner = self._owners.setdefault(directory, (job.num, job.overrides))
        _refuse_another(owner, job.num, job.overrides, directory)


def _refuse_another(owner: tuple[int, Sequence[str]], num: int, overrides: Sequence[str], directory: str) -> None:
    if owner[0] != num:
        raise ConfigError(
            f"hydra.sweep.subdir: jobs {known_as(*owner)} and {known_as(num, overrides)} have the same directory, "
            f"{directory}; give each one of its own, for example by hydra.sweep.subdir='job_${{hydra.job.num}}'"
        )
