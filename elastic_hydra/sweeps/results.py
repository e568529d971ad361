"""All results of a sweep: the line when a job has ended, and at the end the table, on the console and in files."""

from __future__ import annotations

import atexit
import csv
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.elastic.agent import IN_THE_LOG_ONLY
from elastic_hydra.overview.words import duration
from elastic_hydra.supervisor.forked import current_umask
from elastic_hydra.sweeps.job_end import NOT_STARTED, JobEnd
from elastic_hydra.sweeps.milestones import Milestones
from elastic_hydra.sweeps.rerun import how_to_go_on
from elastic_hydra.sweeps.table import fastest, in_order, kept, render, shown_value

__all__ = ["Results", "given_overrides", "has_one_batch", "maximize"]

log = logging.getLogger("elastic_hydra")

_MANY = 100
"""Jobs above which the console says at milestones how far the sweep is, and no longer when each job starts and ends."""
_WORTH_TELLING = 10.0
"""Seconds that must be left of a sweep to be told."""


class Results:
    """Collects how the jobs of a sweep have ended, over all batches of its sweeper.

    Args:
        context: Hydra's, whose callbacks say when the sweep is over.
        config: of the sweep.
        folder: of the sweep.
        single: whether it is a run without `-m`: one job, of which there is no table.
        by_time: whether the time that the jobs take is what is looked for.
    """

    def __init__(
        self, context: HydraContext, config: DictConfig, folder: Path, *, single: bool = False, by_time: bool = False
    ) -> None:
        self._config = config
        self._folder = folder
        self._recorded_in = folder
        self._maximize = maximize(config)
        self._single = single
        self._by_time = by_time
        self._one_batch = single or has_one_batch(config)
        self._jobs: dict[int, JobEnd] = {}
        self._planned = 1 if single else _trials(config)
        self._began: float | None = None
        self._ran = 0
        self._milestones = Milestones()
        self._unsaid = False
        """Whether something has ended since the table was shown."""
        self._problem = ""
        self._owner = os.getpid()
        context.callbacks.callbacks.append(_AtTheEnd(self))
        atexit.register(self.show)  # Hydra 1.3 calls no callback when a sweeper ends by an exception

    def plan(self, count: int) -> None:
        """Note how many jobs of a batch there are."""
        self._planned = max(self._planned, len(self._jobs) + count)
        self._began = self._began or time.monotonic()

    def add(self, job: JobEnd) -> None:
        """Note a job's end."""
        self._jobs[job.num] = replace(job, value=kept(job.value))
        self._unsaid = True
        self._ran += not job.recorded and job.state != NOT_STARTED

    def add_not_started(self, num: int, overrides: Sequence[str]) -> None:
        """Note a job that has not been started, unless its end is known."""
        if num not in self._jobs:
            self.add(JobEnd(num, overrides, NOT_STARTED))

    def finished(self, job: JobEnd) -> None:
        """Note that a job has finished, and say so; of many jobs, say from time to time how far they are."""
        self.add(job)
        value = f": {shown_value(job.value)}" if job.value is not None else ""
        extra = IN_THE_LOG_ONLY if self.says_little else None
        log.info("#%s finished%s in %s%s", job.num, value, duration(job.seconds), self.progress(), extra=extra)
        if self.says_little and self._milestones.reached(len(self._jobs), self._planned, time.monotonic()):
            states = Counter(one.state for one in self._jobs.values())
            log.info("%s%s", ", ".join(f"{count} {state}" for state, count in states.items()), self.progress())

    @property
    def planned(self) -> int:
        """How many jobs the sweep has, as far as its sweeper has said."""
        return self._planned

    @property
    def says_little(self) -> bool:
        """Whether there are so many jobs that the console says of single ones only what is wrong."""
        return self._planned > _MANY

    def outlook(self) -> tuple[int, str]:
        """Return how many jobs the sweep has, and how long it will take, in words: empty if nobody knows."""
        return self._planned, self._left()

    def _left(self) -> str:
        pace = (time.monotonic() - (self._began or 0.0)) / max(1, self._ran)
        left = pace * (self._planned - len(self._jobs))
        return duration(left) if self._ran and left >= _WORTH_TELLING else ""

    def progress(self) -> str:
        """Say how far the sweep is, as the end of a line; nothing when it has one job only."""
        if self._planned < 2:
            return ""
        left = self._left()
        about = f", about {left} left" if left else ""
        return f" ({len(self._jobs)} of {self._planned}{about})"

    def end_of_batch(self, problem: str, recorded_in: Path, *, last: bool) -> None:
        """Show the table, unless the sweeper comes back with more.

        Args:
            problem: what is wrong with the journal; empty: nothing.
            recorded_in: the folder of the journal, which may have been moved while the sweep ran.
            last: whether the sweep is told to stop.
        """
        self._problem, self._recorded_in = problem, recorded_in
        if last or self._one_batch:
            self.show()

    def show(self) -> None:
        """Show the table on the console, and write it and all results into the sweep's directory."""
        if not self._unsaid or os.getpid() != self._owner:
            return  # this is a fork that runs the exit functions of its parent
        self._unsaid = False
        atexit.unregister(self.show)
        jobs = [self._jobs[num] for num in sorted(self._jobs)]
        well = all(job.state == "finished" for job in jobs)
        again = "" if well else how_to_go_on(self._recorded_in, given_overrides(self._config), single=self._single)
        if self._problem:
            log.error("%s", self._problem)
        if len(jobs) > 1 or self._problem:
            log.info("%s", render(jobs, self._maximize, self._folder / "results.csv"))
        if self._by_time and (line := fastest(jobs)):
            log.info("%s", line)
        if again:
            log.info("%s", again)
        if not self._single:
            self._write_files(jobs, again)

    def _write_files(self, jobs: Sequence[JobEnd], again: str) -> None:
        try:
            table = render(jobs, self._maximize)
            _write(self._folder / "summary.txt", lambda file: file.write(f"{table}\n{again}".rstrip() + "\n"))
            _write(self._folder / "results.csv", lambda file: csv.writer(file).writerows(_cells(jobs, self._maximize)))
        except OSError as error:
            log.warning("results.csv and summary.txt cannot be written: %s", error)


class _AtTheEnd(Callback):
    """Hydra's word that the sweep is over."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        self._results.show()


def given_overrides(config: DictConfig) -> list[str]:
    """Return the overrides with which the sweep was started, as they were written: not resolved."""
    given: Any = OmegaConf.to_container(config.hydra.overrides)
    return [*given["hydra"], *given["task"]]


def maximize(config: DictConfig) -> bool | None:
    """Read from the sweeper's configuration whether larger values are better; None: it does not say, or of several."""
    said = OmegaConf.select(config, "hydra.sweeper.direction", default=None)  # Optuna's
    text = str(getattr(said, "name", said)).lower()
    if text in ("minimize", "maximize"):
        return text == "maximize"
    larger = OmegaConf.select(config, "hydra.sweeper.optim.maximize", default=None)  # Nevergrad's
    smaller = OmegaConf.select(config, "hydra.sweeper.ax_config.experiment.minimize", default=None)
    return larger if isinstance(larger, bool) else not smaller if isinstance(smaller, bool) else None


def has_one_batch(config: DictConfig) -> bool:
    """Whether the sweeper hands over all jobs at once, as Hydra's own does when it is not told otherwise."""
    target = str(OmegaConf.select(config, "hydra.sweeper._target_", default=""))
    sizes = OmegaConf.select(config, "hydra.sweeper.max_batch_size", default=None)
    return target.rpartition(".")[2] == "BasicSweeper" and sizes is None


def _trials(config: DictConfig) -> int:
    trials = OmegaConf.select(config, "hydra.sweeper.n_trials", default=None)
    return trials if isinstance(trials, int) else 0


def _cells(jobs: Sequence[JobEnd], maximize: bool | None) -> list[list[Any]]:
    """Return the rows of results.csv: one column per override, those that all jobs share as well."""
    split = {job.num: dict(override.partition("=")[::2] for override in job.overrides) for job in jobs}
    keys = list(dict.fromkeys(key for overrides in split.values() for key in overrides))
    rows: list[list[Any]] = [["job", "state", "value", "seconds", "attempts", "restarts", *keys, "reason", "log"]]
    for job in in_order(jobs, maximize):
        ran = [round(job.seconds, 3), job.attempts, job.restarts] if job.attempts else ["", "", ""]
        given = [split[job.num].get(key, "") for key in keys]
        log_path = str(job.log) if job.reason and job.log is not None else ""
        rows.append([job.num, job.state, job.value, *ran, *given, job.reason, log_path])
    return rows


def _write(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a text file whole, or leave the earlier one as it is."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        # File names that are not UTF-8 come here in messages of exceptions.
        with open(fd, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            write(file)
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
