"""What the journal of a sweep says about each job."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import lock, place
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    JobComposed,
    JobEnded,
    RequeueAsked,
    SweepBegan,
    WorkersFailed,
)
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.values import Value

__all__ = ["Record", "Recorded", "read", "restarts"]

_T = TypeVar("_T")

_PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETIMEDOUT)
"""Error numbers of problems that may be over in a moment."""


@dataclass(slots=True)
class Recorded:
    """What a journal says about one job.

    There may be a hundred thousand jobs, so what is seldom needed, such as the configuration, is not kept in memory.
    """

    num: int
    overrides: Sequence[str]
    offset: int
    """Where in the journal the `job` line of this job begins, in bytes."""
    dir: str
    """The job's output directory."""
    state: str = "waiting"
    """`waiting`, `started` (the journal has no end: the launcher was killed), `finished`, `failed`, `interrupted` or
    `preempted`."""
    attempts: int = 0
    """How many attempts were started."""
    reason: str = ""
    """Why the job or its last attempt ended so, in one line; empty if the job finished."""
    value: Value | None = None
    """What the job has returned; None if it has not finished."""

    def apply(self, event: AttemptStarted | AttemptLost | JobEnded, journal: Path, distrust: str) -> None:
        """Note what has happened to the job.

        Args:
            event: what has happened.
            journal: the journal that says so.
            distrust: why pickles of that journal must not be loaded; empty: they may be.
        """
        if isinstance(event, AttemptStarted):
            self.state, self.attempts = "started", event.attempt + 1
        elif isinstance(event, AttemptLost):
            self.state, self.reason = "interrupted", event.reason
        else:
            self.state, self.reason = event.state, event.reason
            self.value = Value.of(event, journal, distrust) if self.state == "finished" else None


class Record(dict[int, Recorded]):
    """The recorded jobs of a sweep by their numbers, and what is recorded of the sweep.

    Args:
        path: the journal.
        end: position up to which the journal is read, in bytes.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        super().__init__()
        self.path = path
        self.end = end
        self.task: str | None = None
        """The name of the app (`hydra.job.name`) that the sweep runs; None: unknown."""
        self.slurm_job = ""
        """The Slurm job of the last launcher; empty: it was in none that it puts back into the queue."""
        self.idle_lives = 0
        """In how many lives of that job in a row no job has made progress."""
        self.folder = os.path.abspath(path.parent)
        """The sweep's directory."""
        self._dir = self.folder
        """The sweep's directory at the time when the line was written that is being read."""

    def begin(self, event: SweepBegan) -> None:
        """Note that a launcher has begun. Unless it resumes the sweep, the jobs of earlier lines are forgotten."""
        self.task = self.task if event.task is None else event.task
        self._dir = self._dir if event.dir is None else event.dir
        if event.slurm_job != self.slurm_job:
            self.slurm_job, self.idle_lives = event.slurm_job, 0
        if not event.resume:
            self.clear()

    def place_now(self, recorded: str) -> str:
        """Return where a recorded directory is now: somebody may have moved the sweep's directory and all in it."""
        return place.place_now(recorded, self._dir, self.folder)

    def config(self, num: int) -> str:
        """Read a job's recorded configuration, as YAML.

        Raises:
            ConfigError: the journal cannot be read.
        """
        _, event = _patiently(self.path, lambda: next(iter(Lines(self.path, self[num].offset))))
        assert isinstance(event, JobComposed)
        return event.config


def read(path: Path, key: str = "hydra.sweep.dir") -> Record:
    """Read what happened to each job of a sweep. No return value is unpickled.

    Args:
        path: the journal. If a launcher on another node of the same sweep is writing it, the lines of this launcher are
            left out: all nodes must start from the same past.
        key: that names the directory, for messages.

    Returns:
        the jobs; none when there is no journal.

    Raises:
        ConfigError: a newer version has written the journal, or it cannot be read.
    """
    return _patiently(path, lambda: _read(path), key)


def _patiently(path: Path, reading: Callable[[], _T], key: str = "hydra.sweep.dir") -> _T:
    """Read from a journal, and try again for a while if the problem may pass, as on network file systems.

    Raises:
        ConfigError: the journal cannot be read.
    """
    deadline = time.monotonic() + timeouts.JOURNAL
    while True:
        try:
            return reading()
        except OSError as error:
            if error.errno not in _PASSING or time.monotonic() > deadline:
                raise ConfigError(
                    f"{key}={path.parent}: the sweep's journal cannot be read there ({error}). Make "
                    f"{path.name} readable for you, or choose another directory"
                ) from error
        time.sleep(0.2)


def _read(path: Path) -> Record:
    record = Record(path, _end_of_past(path))
    lines = Lines(path, end=record.end)
    for offset, event in lines:
        _apply(event, offset, record, lines.distrust)
    lines.say_what_is_lost()
    return record


def restarts(path: Path, num: int, start: int = 0) -> tuple[float, ...]:
    """Return when a job was restarted, on this machine's monotonic clock, in seconds; only restarts that count.

    Args:
        path: the journal.
        num: the job.
        start: position of the first line to read, in bytes.

    Returns:
        the times of the restarts, earliest first.
    """
    failures = (event for _, event in Lines(path, start) if isinstance(event, WorkersFailed) and event.num == num)
    counted = (event for event in failures if event.again and event.counts)
    return tuple(event.monotonic for event in counted if event.monotonic is not None)


def _end_of_past(path: Path) -> int:
    """Return where the lines of the launcher begin that is writing now, or else where the journal ends, in bytes."""
    if lock.is_held_by_another(path):
        return max((offset for offset, event in Lines(path) if isinstance(event, SweepBegan)), default=0)
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _apply(event: Event, offset: int, record: Record, distrust: str) -> None:
    """Note what an event says about the sweep or about a job."""
    if isinstance(event, SweepBegan):
        record.begin(event)
    elif isinstance(event, RequeueAsked):
        record.idle_lives = event.idle
    elif isinstance(event, JobComposed):
        record[event.num] = Recorded(event.num, event.overrides, offset, record.place_now(event.dir))
    elif isinstance(event, (AttemptStarted, AttemptLost, JobEnded)) and event.num in record:
        record[event.num].apply(event, record.path, distrust)
