"""The record of a sweep: one JSON object per line, only ever appended to.

`journal.jsonl` in the sweep's directory. Every line has `v` (1), `time` (seconds since the epoch) and `event`:

| event | further fields |
| --- | --- |
| `sweep` | `pid`, `host`, `command`, `resume`: a launcher has begun, or has begun again |
| `job` | `num`, `overrides`, `config` (YAML of the task's configuration), `dir`: a job was composed |
| `start` | `num`, `attempt`, `gpus`, `cpus`: its agent was started; what it holds of the host |
| `failure` | `num`, `attempt`, `again` (is it restarted, `after` so many seconds), `reason`, `failure` (kind, rank…) |
| `bindings` | `num`, `workers`: what each worker of this node is bound to, if it is |
| `lost` | `num`, `attempt`, `reason`: its agent died; another attempt follows |
| `end` | `num`, `state` (`finished`, `failed`, `interrupted`), `seconds`, `restarts`, `reason`, `value`, `pickle` |
| `stop` | `reason`: the launcher ended before the sweep was done |

`value` is there when the return value is JSON; `pickle` (base64) when it is not. A crash loses at most the line that
was being written; a reader skips what is not a whole line.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import json
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from elastic_hydra.config.errors import ConfigError

__all__ = ["FILE_NAME", "Journal", "Recorded", "append", "read", "restarts"]

FILE_NAME = "journal.jsonl"
VERSION = 1

_open_files: dict[str, int] = {}
"""Journals of this process, by path: the lock on one is ours as long as we live."""


class Journal:
    """Writes the record of one sweep, and keeps other launchers from writing it.

    Args:
        folder: the sweep's directory.
        shared: whether launchers on other nodes may use the same directory: then the second one writes a journal
            of its own instead of being refused.

    Raises:
        ConfigError: another launcher is at work in that directory.
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        path = folder / FILE_NAME
        fd = _locked(path)
        if fd is None and shared:
            path = folder / f"journal.{os.uname().nodename}.{os.getpid()}.jsonl"
            fd = _locked(path)
        if fd is None:
            raise ConfigError(
                f"hydra.sweep.dir={folder}: another launcher, or a worker of it, is still at work there. Wait for it, "
                "stop it, or choose another directory"
            )
        self.path = path
        self._fd = fd

    def write(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Append a line.

        Args:
            event: what happened.
            durable: whether the line shall survive even the machine's crash: that takes milliseconds.
            fields: the rest of the line.

        Raises:
            OSError: it could not be written; the sweep must not go on without its record.
        """
        data = _line(event, fields)
        if os.fstat(self._fd).st_size and not self._ends_with_newline():
            data = b"\n" + data  # the last writer died in the middle of a line
        while data:
            data = data[os.write(self._fd, data) :]
        if durable:
            os.fsync(self._fd)

    def _ends_with_newline(self) -> bool:
        return os.pread(self._fd, 1, os.fstat(self._fd).st_size - 1) == b"\n"


def append(path: Path, event: str, **fields: Any) -> None:
    """Append a line to the journal of another process: an agent to its launcher's.

    Args:
        path: of the journal.
        event: what happened.
        fields: the rest of the line.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, _line(event, fields))  # in one piece: lines of several processes do not mix
    finally:
        os.close(fd)


def restarts(path: Path, num: int) -> tuple[float, ...]:
    """Return when a job was restarted so far, in seconds since the epoch."""
    records = (record for record in _lines(path) if record["event"] == "failure" and record.get("again"))
    return tuple(record["time"] for record in records if record.get("num") == num)


def _line(event: str, fields: dict[str, Any]) -> bytes:
    return (json.dumps({"v": VERSION, "time": round(time.time(), 3), "event": event, **fields}) + "\n").encode()


def _locked(path: Path) -> int | None:
    key = str(path.absolute())
    if key in _open_files:
        return _open_files[key]
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # It belongs to the open file, so forked workers hold it too: nobody starts while some of them still write.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    _open_files[key] = fd
    return fd


@dataclass
class Recorded:
    """What a journal says about one job."""

    num: int
    overrides: list[str]
    config: str
    state: str = "waiting"
    """`waiting`, `started` (no end was written: it was interrupted), `finished`, `failed` or `interrupted`."""
    attempts: int = 0
    reason: str = ""
    value: Any = None


def read(path: Path) -> dict[int, Recorded]:
    """Read what happened to each job of a sweep.

    Args:
        path: the journal.

    Returns:
        the jobs by number; empty when there is no journal.

    Raises:
        ConfigError: it was written by a newer version.
    """
    jobs: dict[int, Recorded] = {}
    for record in _lines(path):
        if record.get("v", 0) > VERSION:
            raise ConfigError(f"{path}: written by a newer elastic_hydra (version {record['v']} of the format)")
        _apply(record, jobs)
    return jobs


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
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
        with contextlib.suppress(pickle.UnpicklingError, AttributeError, ImportError, binascii.Error, EOFError):
            jobs[num].value = (
                pickle.loads(base64.b64decode(record["pickle"])) if "pickle" in record else record.get("value")
            )


def recordable(value: Any) -> dict[str, Any]:
    """Put a return value into the form in which a line holds it."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        if json.loads(json.dumps(value)) == value:
            return {"value": value}
    return {"pickle": base64.b64encode(cloudpickle.dumps(value)).decode()}
