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

__all__ = ["Recorded", "read", "restarts", "task"]


@dataclass
class Recorded:
    """What a journal says about one job."""

    num: int
    overrides: list[str]
    config: str
    state: str = "waiting"
    """`waiting`, `started` (no end was written: its launcher was killed), `finished`, `failed`, `interrupted` or
    `preempted`."""
    attempts: int = 0
    reason: str = ""
    value: Any = None
    unreadable: str = ""
    """Why the recorded value cannot be had back; empty: it can."""


def read(path: Path) -> dict[int, Recorded]:
    """Read what happened to each job of a sweep.

    Args:
        path: the journal. What a launcher adds that is at work now, on another node of the same sweep, is left out:
            all nodes shall start from the same past.

    Returns:
        the jobs by number; empty when there is no journal.

    Raises:
        ConfigError: it was written by a newer version.
    """
    records = list(_lines(path))
    if is_at_work(path):
        begun = max((index for index, record in enumerate(records) if record["event"] == "sweep"), default=0)
        records = records[:begun]
    jobs: dict[int, Recorded] = {}
    for record in records:
        if record.get("v", 0) > VERSION:
            raise ConfigError(f"{path}: written by a newer elastic_hydra (version {record['v']} of the format)")
        _apply(record, jobs)
    return jobs


def task(path: Path) -> str | None:
    """Return the name of the app (`hydra.job.name`) whose sweep it is; None: unknown."""
    named = [record["task"] for record in _lines(path) if record["event"] == "sweep" and "task" in record]
    return named[-1] if named else None


def restarts(path: Path, num: int, start: int = 0) -> tuple[float, ...]:
    """Return when a job was restarted, in seconds since the epoch; only restarts that count.

    Args:
        path: the journal.
        num: the job.
        start: where in the journal to begin, in bytes.
    """
    records = (record for record in _lines(path, start) if record["event"] == "failure" and record.get("num") == num)
    return tuple(record["time"] for record in records if record.get("again") and record.get("counts", True))


def _lines(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError):  # half a line: its writer was killed, or the disk was full
            record = json.loads(line)
            if isinstance(record, dict) and "event" in record:
                yield record


def _apply(record: dict[str, Any], jobs: dict[int, Recorded]) -> None:
    event, num = record["event"], record.get("num", -1)
    if event == "sweep" and not record.get("resume"):
        jobs.clear()
    elif event == "job":
        jobs[num] = Recorded(num, record["overrides"], record["config"])
    elif event == "start" and num in jobs:
        jobs[num].state, jobs[num].attempts = "started", record["attempt"] + 1
    elif event == "lost" and num in jobs:
        jobs[num].state, jobs[num].reason = "interrupted", record["reason"]
    elif event == "end" and num in jobs:
        jobs[num].state, jobs[num].reason = record["state"], record["reason"]
        jobs[num].value, jobs[num].unreadable = _value(record)


def _value(record: dict[str, Any]) -> tuple[Any, str]:
    if "pickle" not in record:
        return record.get("value"), ""
    try:
        return pickle.loads(base64.b64decode(record["pickle"])), ""
    except Exception as error:  # its class has moved or changed: unpickling may raise anything
        return None, f"{type(error).__name__}: {error}"
