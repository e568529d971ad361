"""What the journal of a sweep says about each job."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import lock
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.values import Value
from elastic_hydra.journal.writer import PATIENCE, VERSION

__all__ = ["Record", "Recorded", "read", "restarts"]

_T = TypeVar("_T")

_PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETIMEDOUT)
"""Errors that may be over in a moment."""


@dataclass(slots=True)
class Recorded:
    """What a journal says about one job. There may be a hundred thousand: what is seldom needed stays in the file."""

    num: int
    overrides: list[str]
    offset: int
    """Where in the journal its `job` line begins, in bytes."""
    dir: str
    """Its output directory."""
    state: str = "waiting"
    """`waiting`, `started` (no end was written: its launcher was killed), `finished`, `failed`, `interrupted` or
    `preempted`."""
    attempts: int = 0
    reason: str = ""
    value: Value | None = None
    """What it has returned; None if it has not finished."""


class Record(dict[int, Recorded]):
    """The recorded jobs of a sweep by their numbers, and what is recorded of the sweep.

    Args:
        path: the journal.
        end: how far it is read, in bytes.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        super().__init__()
        self.path = path
        self.end = end
        self.task: str | None = None
        """The name of the app (`hydra.job.name`) whose sweep it is; None: unknown."""
        self.folder = os.path.abspath(path.parent)
        """The sweep's directory."""
        self.dir = self.folder
        """Where it was when the line was written that is being read."""

    def config(self, num: int) -> str:
        """Read a job's recorded configuration, as YAML.

        Raises:
            ConfigError: the journal cannot be read.
        """
        _, line = _patiently(self.path, lambda: next(iter(Lines(self.path, self[num].offset))))
        return str(line["config"])


def read(path: Path) -> Record:
    """Read what happened to each job of a sweep: the file once, line by line. No return value is unpickled.

    Args:
        path: the journal. What a launcher adds that is at work now, on another node of the same sweep, is left out:
            all nodes shall start from the same past.

    Returns:
        the jobs; none when there is no journal.

    Raises:
        ConfigError: it was written by a newer version, or cannot be read.
    """
    return _patiently(path, lambda: _read(path))


def _patiently(path: Path, reading: Callable[[], _T]) -> _T:
    """Read from a journal; what may be different in a moment, on a network file system above all, is tried again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return reading()
        except OSError as error:
            if error.errno not in _PASSING or time.monotonic() > deadline:
                raise ConfigError(
                    f"hydra.sweep.dir={path.parent}: the sweep's journal cannot be read there ({error}). Make "
                    f"{path.name} readable for you, or choose another directory"
                ) from error
        time.sleep(0.2)


def _read(path: Path) -> Record:
    record = Record(path, _end_of_past(path))
    lines = Lines(path, end=record.end)
    for offset, line in lines:
        if line["v"] > VERSION:
            version = f"version {line['v']} of the format"
            raise ConfigError(f"{path}, line {lines.number}: written by a newer elastic_hydra ({version})")
        _apply(line, offset, record, lines.distrust)
    lines.say_what_is_lost()
    return record


def restarts(path: Path, num: int, start: int = 0) -> tuple[float, ...]:
    """Return when a job was restarted, on this machine's monotonic clock, in seconds; only restarts that count.

    Args:
        path: the journal.
        num: the job.
        start: where in the journal to begin, in bytes.
    """
    failures = (line for _, line in Lines(path, start) if line["event"] == "failure" and line["num"] == num)
    counted = (line for line in failures if line.get("again") and line.get("counts", True))
    return tuple(line["monotonic"] for line in counted if "monotonic" in line)


def _end_of_past(path: Path) -> int:
    """Return where the lines of a launcher that is at work begin, or where the journal ends, in bytes."""
    if lock.is_held_by_another(path):
        return max((offset for offset, line in Lines(path) if line["event"] == "sweep"), default=0)
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _apply(line: dict[str, Any], offset: int, record: Record, distrust: str) -> None:
    event = line["event"]
    if event == "sweep":
        record.task, record.dir = line.get("task", record.task), str(line.get("dir", record.dir))
        if not line.get("resume"):
            record.clear()
        return
    num = line["num"]
    if event == "job":
        record[num] = Recorded(num, line["overrides"], offset, _dir(line, record))
        return
    job = record.get(num)
    if job is None:
        return
    if event == "start":
        job.state, job.attempts = "started", line["attempt"] + 1
    elif event == "lost":
        job.state, job.reason = "interrupted", line["reason"]
    elif event == "end":
        job.state, job.reason = line["state"], line["reason"]
        job.value = Value.of(line, record.path, distrust) if job.state == "finished" else None


def _dir(line: dict[str, Any], record: Record) -> str:
    """Return where a job's directory is now: what lies in the sweep's directory has been moved with it."""
    recorded: str = line["dir"]
    return record.folder + recorded[len(record.dir) :] if recorded.startswith(record.dir + os.sep) else recorded
