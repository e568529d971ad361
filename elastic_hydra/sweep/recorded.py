"""What the journal of a sweep says about each job."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.sweep.journal import VERSION, is_at_work

__all__ = ["Record", "Recorded", "read", "restarts"]


@dataclass(slots=True)
class Recorded:
    """What a journal says about one job. There may be a hundred thousand: what is seldom needed stays in the file."""

    num: int
    overrides: list[str]
    offset: int
    """Where in the journal its `job` line begins, in bytes."""
    state: str = "waiting"
    """`waiting`, `started` (no end was written: its launcher was killed), `finished`, `failed`, `interrupted` or
    `preempted`."""
    attempts: int = 0
    reason: str = ""
    value: Any = None
    unreadable: str = ""
    """Why the recorded value cannot be had back; empty: it can."""


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

    def config(self, num: int) -> str:
        """Read a job's recorded configuration, as YAML."""
        _, line = next(_lines(self.path, self[num].offset))
        return str(line["config"])


def read(path: Path) -> Record:
    """Read what happened to each job of a sweep: the file once, line by line.

    Args:
        path: the journal. What a launcher adds that is at work now, on another node of the same sweep, is left out:
            all nodes shall start from the same past.

    Returns:
        the jobs; none when there is no journal.

    Raises:
        ConfigError: it was written by a newer version.
    """
    record = Record(path, _end_of_past(path))
    for offset, line in _lines(path, end=record.end):
        if line.get("v", 0) > VERSION:
            raise ConfigError(f"{path}: written by a newer elastic_hydra (version {line['v']} of the format)")
        _apply(line, offset, record)
    return record


def restarts(path: Path, num: int, start: int = 0) -> tuple[float, ...]:
    """Return when a job was restarted, in seconds since the epoch; only restarts that count.

    Args:
        path: the journal.
        num: the job.
        start: where in the journal to begin, in bytes.
    """
    failures = (line for _, line in _lines(path, start) if line["event"] == "failure" and line.get("num") == num)
    return tuple(line["time"] for line in failures if line.get("again") and line.get("counts", True))


def _end_of_past(path: Path) -> int:
    """Return where the lines of a launcher that is at work begin, or where the journal ends, in bytes."""
    if is_at_work(path):
        return max((offset for offset, line in _lines(path) if line["event"] == "sweep"), default=0)
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each whole line of a journal with where it begins, in bytes."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(start)
        for text in file:
            offset, start = start, start + len(text)
            if end is not None and offset >= end:
                return
            with contextlib.suppress(ValueError):  # half a line: its writer was killed, or the disk was full
                line = json.loads(text)
                if isinstance(line, dict) and "event" in line:
                    yield offset, line


def _apply(line: dict[str, Any], offset: int, record: Record) -> None:
    event, num = line["event"], line.get("num", -1)
    if event == "sweep":
        record.task = line.get("task", record.task)
        if not line.get("resume"):
            record.clear()
        return
    if event == "job":
        record[num] = Recorded(num, line["overrides"], offset)
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
        job.value, job.unreadable = _value(line)


def _value(line: dict[str, Any]) -> tuple[Any, str]:
    if "pickle" not in line:
        return line.get("value"), ""
    try:
        return pickle.loads(base64.b64decode(line["pickle"])), ""
    except Exception as error:  # its class has moved or changed: unpickling may raise anything
        return None, f"{type(error).__name__}: {error}"
