"""The record of a sweep: one JSON object per line, only ever appended to.

`journal.jsonl` in the sweep's directory. Every line has `v` (1), `time` (seconds since the epoch) and `event`:

| event | further fields |
| --- | --- |
| `sweep` | `pid`, `host`, `task` (`hydra.job.name`), `command`, `resume`: a launcher has begun, or has begun again |
| `job` | `num`, `overrides`, `config` (YAML of the task's configuration), `dir`: a job was composed |
| `start` | `num`, `attempt`, `gpus`, `cpus`: its agent was started; what it holds of the host |
| `failure` | `num`, `attempt`, `again` (restarted, `after` so many seconds), `counts`, `reason`, `failure` (kind, …) |
| `bindings` | `num`, `workers`: what each worker of this node is bound to, if it is |
| `lost` | `num`, `attempt`, `kind`, `reason`: its agent died or was told to stop; another attempt follows |
| `end` | `num`, `state`, `kind`, `reason`, `seconds`, `attempts`, `restarts`, `value`, `pickle` |
| `stop` | `reason`: the launcher ended before the sweep was done |

`counts` is false for a restart that is not one of `retry.max_restarts`.

`state` is `finished`, `failed`, `interrupted` (Ctrl-C) or `preempted` (SIGTERM, SIGUSR1, … to the launcher or the job's
agent); `kind` is the kind of failure (see `elastic_hydra.config.retry.Kind`), and empty for a job that finished.
`value` is there when the return value is JSON; `pickle` (base64) when it is not. A crash loses at most the line that
was being written; a reader skips what is not a whole line.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import cloudpickle

from elastic_hydra.config.errors import ConfigError

__all__ = ["FILE_NAME", "VERSION", "Journal", "append", "is_at_work", "recordable"]

FILE_NAME = "journal.jsonl"
VERSION = 1

log = logging.getLogger("elastic_hydra")

_open_files: dict[str, int] = {}
"""Journals of this process, by path: the lock on one is ours as long as we live."""


class Journal:
    """Writes the record of one sweep, and keeps other launchers from writing it.

    Args:
        folder: the sweep's directory.
        shared: whether launchers on other nodes may use the same directory: then the second one writes a journal
            of its own instead of being refused.

    Raises:
        ConfigError: another launcher is at work in that directory, or it cannot be written to.
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
        self.problem = ""
        """Why the last lines could not be written; empty when all are there."""
        self._fd = fd
        self._unwritten: list[bytes] = []

    @property
    def lock(self) -> int:
        """The file descriptor that keeps other launchers out as long as any process has it."""
        return self._fd

    def position(self) -> int:
        """Return where the next line will be, in bytes."""
        return os.fstat(self._fd).st_size

    def write(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Append a line; one that cannot be written now is kept for later, see `flush`.

        Args:
            event: what happened.
            durable: whether the line shall survive even the machine's crash: that takes milliseconds.
            fields: the rest of the line.
        """
        self._unwritten.append(_line(event, fields))
        self.flush(durable=durable)

    def flush(self, *, durable: bool = False) -> bool:
        """Write what could not be written before.

        Args:
            durable: see `write`.

        Returns:
            whether all is written; if not, `problem` says why, and the first time the log as well.
        """
        try:
            while self._unwritten:
                _append(self._fd, self._unwritten[0])
                del self._unwritten[0]
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            if not self.problem:
                log.error("%s cannot be written (%s): no further job is started until it can", self.path, error)
            self.problem = f"{self.path} cannot be written: {error}"
            return False
        if self.problem:
            log.warning("%s can be written again, and nothing is missing in it", self.path)
            self.problem = ""
        return True


def append(path: Path, event: str, **fields: Any) -> None:
    """Append a line to the journal of another process: an agent to its launcher's.

    Args:
        path: of the journal.
        event: what happened.
        fields: the rest of the line.

    Raises:
        OSError: it could not be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        _append(fd, _line(event, fields))
    finally:
        os.close(fd)


def is_at_work(path: Path) -> bool:
    """Whether another launcher is writing a journal."""
    if str(path.absolute()) in _open_files:
        return False
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def recordable(value: Any) -> dict[str, Any]:
    """Put a return value into the form in which a line holds it."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            return {"value": value}
    return {"pickle": base64.b64encode(cloudpickle.dumps(value)).decode()}


def _line(event: str, fields: dict[str, Any]) -> bytes:
    return (json.dumps({"v": VERSION, "time": round(time.time(), 3), "event": event, **fields}) + "\n").encode()


def _append(fd: int, line: bytes) -> None:
    """Write a line in one piece, so that those of several processes do not mix, behind any half line that is there."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line  # a writer died in the middle of it, or the disk was full
    while line:
        line = line[os.write(fd, line) :]


def _locked(path: Path) -> int | None:
    key = str(path.absolute())
    if key in _open_files:
        return _open_files[key]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise ConfigError(
            f"hydra.sweep.dir={path.parent}: the sweep's journal cannot be written there ({error}). Make it writable, "
            "or choose another directory"
        ) from error
    try:
        # It belongs to the open file, so forked workers hold it too: nobody starts while some of them still write.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError as error:
        log.warning("%s cannot be locked (%s): take care that no second launcher uses its directory", path, error)
    _open_files[key] = fd
    return fd
