"""A server whose jobs need no processes: they end when the launcher waits, in any order, well or not, or never."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.compat.hydra import set_hydra_config
from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.errors import JobError
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.sweeps.compose import task_config


class KilledError(BaseException):
    """The launcher is dead from here on: what it still does is undone by who catches this."""


@dataclass(eq=False)
class FakeProcess:
    """An agent that has run its job already, and ends when it is told to."""

    end: AttemptEnd
    pid: int = 0
    exitcode: int | None = None


@dataclass
class FakeServer:
    """Stands for the launcher's `Server`, with which it starts agents and waits for them.

    Args:
        dice: decides what happens.
        value: of a job that finishes, by its task's configuration.
        failing: the probability that a job fails.
        dying: the probability that the launcher is killed when it starts a job or waits.
        parallel: the most jobs that may run at once.
    """

    dice: random.Random
    value: Callable[[Any], Any]
    failing: float
    dying: float
    parallel: int
    reason: str = "by nobody"
    lost: bool = False
    ran: list[tuple[int, Path]] = field(default_factory=list)
    """The number of each job that was started, and the directory in which Hydra would run it."""
    _running: list[FakeProcess] = field(default_factory=list)

    def open(self, *_: Any, **__: Any) -> FakeServer:
        return self

    @contextlib.contextmanager
    def adopting_orphans(self) -> Iterator[None]:
        yield

    def pump(self) -> None: ...

    def set_shutdown_timeout(self, _: float) -> None: ...

    def preload(self, _: Any) -> None: ...

    def is_asked(self) -> bool:
        return False

    def close(self) -> None:
        self._running.clear()

    def start(self, _: Any, payload: tuple[Any, tuple[Any, ...]]) -> FakeProcess:
        self._may_die()
        attempt: Attempt = payload[1][0]
        job = attempt.job
        self.ran.append((job.num, _where_hydra_runs(job)))
        made = JobReturn(status=JobStatus.COMPLETED, cfg=task_config(job.config))
        made.return_value = self.value(made.cfg)
        end = AttemptEnd(made)
        if self.dice.random() < self.failing:
            made.status, made.return_value = JobStatus.FAILED, JobError("bad luck")
            end = AttemptEnd(made, Failure(Kind.exception, "bad luck", "here", 0.0))
        process = FakeProcess(end)
        self._running.append(process)
        assert len(self._running) <= self.parallel
        return process

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        self._may_die()
        assert self._running or timeout is not None, "the launcher waits for ever"
        if self._running and (timeout is None or self.dice.random() < 0.5):
            for process in self.dice.sample(self._running, self.dice.randint(1, len(self._running))):
                process.exitcode = 0
        return done()

    def forget(self, processes: Iterable[FakeProcess]) -> None:
        for process in processes:
            self._running.remove(process)

    def _may_die(self) -> None:
        if self.dice.random() < self.dying:
            raise KilledError

    def stop(self, processes: Iterable[FakeProcess], *_: Any) -> None:
        for process in processes:
            process.exitcode = 0


def end_of(_: Job, process: FakeProcess, *__: Any, **___: Any) -> AttemptEnd:
    """Stand for `returns.of`."""
    return process.end


def _where_hydra_runs(job: Job) -> Path:
    """Do what `run_job` does to find out the directory."""
    before = HydraConfig.instance().cfg
    set_hydra_config(job.config)
    try:
        keys = ("hydra.sweep.dir", "hydra.sweep.subdir")
        return Path(os.path.abspath(os.path.join(*(str(OmegaConf.select(job.config, key)) for key in keys))))
    finally:
        HydraConfig.instance().cfg = before
