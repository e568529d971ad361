"""Whose each output directory is: no two jobs of a sweep write into the same one."""

from __future__ import annotations

from hydra.core.utils import filter_overrides

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.sweep.job import Job
from elastic_hydra.sweep.recorded import Record

__all__ = ["Directories"]


class Directories:
    """The output directories of a sweep's jobs, those of all its batches and those that are recorded.

    Args:
        record: of the sweep that is resumed; empty when it is a new one.
    """

    def __init__(self, record: Record) -> None:
        self._owners: dict[str, tuple[int, list[str]]] = {}
        for job in record.values():
            self._owners.setdefault(job.dir, (job.num, job.overrides))

    def claim(self, job: Job) -> None:
        """Take a job's directory for it.

        Args:
            job: one that is to be run.

        Raises:
            ConfigError: the directory is another job's.
        """
        num, overrides = self._owners.setdefault(str(job.output_dir), (job.num, job.overrides))
        if num != job.num:
            first, second = _name(num, overrides), _name(job.num, job.overrides)
            raise ConfigError(
                f"hydra.sweep.subdir: jobs {first} and {second} have the same directory, {job.output_dir}. Give each "
                "job one of its own, for example by hydra.sweep.subdir='job_${hydra.job.num}'"
            )


def _name(num: int, overrides: list[str]) -> str:
    return f"#{num} ({' '.join(filter_overrides(overrides))})"
