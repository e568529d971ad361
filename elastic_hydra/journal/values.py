"""How the return value of a job is recorded: as JSON where that says it exactly, else as a pickle.

A line of the journal has one of three fields:

| field | what it is |
| --- | --- |
| `value` | the value itself, as JSON |
| `pickle` | a pickle of it, in base64 |
| `file` | the name of a file with a pickle of it, in the journal's folder `journal.values` |

Large values have a file of their own, so that neither their writer nor their reader ever holds a second copy.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import pickle
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cloudpickle
from typing_extensions import Self

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.files import distrust, open_private

__all__ = ["Value", "folder_of", "forget_older", "recordable", "size"]

_LARGE = 1 << 20
"""Bytes from which a value is kept in a file of its own."""
_DEEP = 100
"""Levels of nesting that JSON is trusted with."""
_WIDE = 2000
"""Bits of an integer that every Python prints and reads, however its limit of digits is set."""
_SAME = (bool, float, int, str, type(None))
"""Types that JSON gives back as they were: these themselves, for a subclass comes back as what it is derived from."""


def folder_of(journal: Path) -> Path:
    """Return the folder of the large values of a journal."""
    return journal.with_suffix(".values")


def recordable(value: Any, num: int, journal: Path) -> dict[str, Any]:
    """Put a return value into the form in which a line of the journal holds it.

    Args:
        value: what the job has returned.
        num: the job.
        journal: the journal, beside which a large value gets a file.

    Returns:
        the field of the line, by its name.

    Raises:
        OSError: the file of a large value cannot be written.
    """
    if _room_as_json(value, _LARGE, _DEEP) >= 0:
        return {"value": value}
    with _Spill(folder_of(journal), num) as file:
        try:
            cloudpickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        except Exception as error:  # pickling the user's objects may raise anything, an OSError, too
            if file.problem is not None:
                raise file.problem from None
            return {"unrecorded": f"{type(error).__name__}: {error}"}
        return file.field()


def forget_older(journal: Path, num: int) -> None:
    """Remove the files with a job's earlier values, once the line is written that names its new one."""
    with contextlib.suppress(OSError):  # then they take up some room, and nobody reads them
        files = sorted(folder_of(journal).glob(f"{num}-*.pickle"), key=os.path.getmtime)
        for old in files[:-1]:
            old.unlink()


def size(value: Any) -> int:
    """Return how many bytes the pickle of a value takes; 0 when it has none."""
    count = _Count()
    with contextlib.suppress(Exception):  # whatever pickling the user's objects raises
        cloudpickle.Pickler(count, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return count.size


class _Count:
    size = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        return size


def _room_as_json(value: Any, room: int, depth: int) -> int:
    """Return how much of `room`, in bytes, a value leaves as JSON; less than 0: too large, or not the same any more."""
    kind = type(value)
    if kind is list and depth:
        for item in value:
            room = _room_as_json(item, room - 2, depth - 1)
            if room < 0:
                break
        return room
    if kind is dict and depth:
        for key, item in value.items():
            room = _room_as_json(item, room - 4 - len(key), depth - 1) if type(key) is str else -1
            if room < 0:
                break
        return room
    if kind is float and not math.isfinite(value):
        return -1  # what Python writes for these is no JSON
    if kind is int and value.bit_length() > _WIDE:
        return -1
    return room - (len(value) if kind is str else 8) if kind in _SAME else -1


class _Spill:
    """Takes a pickle: in memory as long as it is small, then in a file, so that there is no second copy of it."""

    def __init__(self, folder: Path, num: int) -> None:
        self._path = folder / f"{num}-{uuid.uuid4().hex[:8]}.pickle"
        self._small = io.BytesIO()
        self._file: IO[bytes] | None = None
        self._complete = False
        self.problem: OSError | None = None
        """Why the file cannot be written."""

    def __enter__(self) -> Self:
        return self

    def write(self, data: Any) -> int:
        """Take the next part."""
        size = memoryview(data).nbytes
        try:
            if self._file is None and self._small.tell() + size > _LARGE:
                self._path.parent.mkdir(exist_ok=True)
                self._file = open(open_private(self._path, os.O_WRONLY), "wb")  # noqa: SIM115 - see `__exit__`
                self._file.write(self._small.getbuffer())
            (self._file or self._small).write(data)
        except OSError as error:
            self.problem = error
            raise
        return size

    def field(self) -> dict[str, Any]:
        """Return what the line of the journal has, once all parts are here; a file is safe then."""
        if self._file is None:
            return {"pickle": base64.b64encode(self._small.getbuffer()).decode()}
        self._file.flush()
        os.fsync(self._file.fileno())
        self._complete = True
        return {"file": self._path.name}

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # what it could not write any more is not missed
            self._file.close()
        if not self._complete:
            self._path.unlink(missing_ok=True)


@dataclass(slots=True)
class Value:
    """A return value in a journal, which is not read before somebody needs it."""

    kind: str
    """The field of the line: see above; or `unrecorded`."""
    content: Any
    """What that field says."""
    journal: Path
    distrust: str = ""
    """Why pickles of that journal are not read; empty: they are."""

    @classmethod
    def of(cls, line: dict[str, Any], journal: Path, distrust: str) -> Value:
        """Take what a line says about a value."""
        kind = next((name for name in ("pickle", "file", "unrecorded") if name in line), "value")
        return cls(kind, line.get(kind), journal, distrust)

    @property
    def is_pickled(self) -> bool:
        """Whether reading it may run code."""
        return self.kind in ("pickle", "file")

    def load(self) -> Any:
        """Return the value.

        Raises:
            ConfigError: it is a pickle that somebody else may have written.
            Exception: whatever unpickling raises: its class has moved or changed, or it is damaged.
        """
        if self.kind == "unrecorded":
            raise ValueError(self.content)
        if not self.is_pickled:
            return self.content
        if self.distrust:
            raise ConfigError(f"{self.journal} {self.distrust}")
        if self.kind == "pickle":
            return pickle.loads(base64.b64decode(self.content, validate=True))
        path = folder_of(self.journal) / os.path.basename(self.content)
        with open(path, "rb") as file:
            if reason := distrust(file.fileno()):
                raise ConfigError(f"{path} {reason}")
            return pickle.load(file)
