"""How the return value of a job is recorded: as JSON where that says it exactly, else as a pickle.

The event of a job's end has one of three fields for it: `value`, `pickle` or `file`; see `events.JobEnded`.
Large values have a file of their own, so that neither their writer nor their reader ever holds a second copy.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.events import JobEnded
from elastic_hydra.journal.files import distrust, open_private

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Value", "folder_of", "forget_older", "size", "with_value"]

_LARGE = 1 << 20
"""Bytes from which a value is kept in a file of its own."""
_DEEP = 100
"""Levels of nesting up to which a value is written as JSON."""
_WIDE = 2000
"""Bits up to which an integer is written as JSON: every Python reads so many digits, whatever its limit is."""
_SAME = (bool, float, int, str, type(None))
"""Types whose values JSON gives back unchanged. Their subclasses are not among them: JSON gives back the base class."""


def folder_of(journal: Path) -> Path:
    """Return the folder of the large values of a journal."""
    return journal.with_suffix(".values")


def with_value(event: JobEnded, value: Any, journal: Path) -> JobEnded:
    """Put a return value into an event, in the form in which a line of the journal holds it.

    Args:
        event: the end of a job that has finished.
        value: what the job has returned.
        journal: the journal, beside which a large value gets a file.

    Returns:
        the event with `value`, `pickle` or `file`, or with `unrecorded` when the value cannot be pickled.

    Raises:
        OSError: the file of a large value cannot be written.
    """
    if _room_as_json(value, _LARGE, _DEEP) >= 0:
        return replace(event, value=value)
    import cloudpickle  # imported here, since who only reads a journal does not need it

    with _Spill(folder_of(journal), event.num) as spill:
        try:
            cloudpickle.Pickler(spill, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        except Exception as error:  # pickling the user's objects may raise anything, even an OSError of theirs
            if spill.problem is not None:
                raise spill.problem from None
            return replace(event, unrecorded=f"{type(error).__name__}: {error}")
        name = spill.keep()
        return replace(event, pickle=spill.in_base64()) if name is None else replace(event, file=name)


def forget_older(journal: Path, num: int) -> None:
    """Remove the files with earlier values of a job. Call this when the line that names the newest file is written.

    Args:
        journal: the journal.
        num: the job.
    """
    with contextlib.suppress(OSError):  # a file that cannot be removed only takes up room: no line names it
        files = sorted(folder_of(journal).glob(f"{num}-*.pickle"), key=os.path.getmtime)
        for old in files[:-1]:
            old.unlink()


def size(value: Any) -> int:
    """Return how many bytes the pickle of a value takes; 0 when it cannot be pickled."""
    import cloudpickle

    count = _Count()
    with contextlib.suppress(Exception):  # whatever pickling the user's objects raises
        cloudpickle.Pickler(count, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return count.size


class _Count:
    """A file that only counts the bytes that are written to it."""

    size = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.size += size
        return size


def _room_as_json(value: Any, room: int, depth: int) -> int:
    """Return how many bytes of some room are left when a value is written into it as JSON, about.

    Args:
        value: the value.
        room: the bytes that there are.
        depth: levels of nesting that are allowed.

    Returns:
        bytes; less than 0: the value is too large, or JSON would not give it back unchanged.
    """
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
        return -1  # Python writes `NaN` and `Infinity`, which are not JSON
    if kind is int and value.bit_length() > _WIDE:
        return -1
    return room - (len(value) if kind is str else 8) if kind in _SAME else -1


class _Spill:
    """Takes a pickle: a small one is kept in memory, a large one is written to a file, so that no copy is in memory."""

    def __init__(self, folder: Path, num: int) -> None:
        self._path = folder / f"{num}-{os.urandom(4).hex()}.pickle"
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

    def keep(self) -> str | None:
        """Note that the pickle is complete, so that its file stays.

        Returns:
            the file's name; None: the pickle is in memory.
        """
        if self._file is None:
            return None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._complete = True
        return self._path.name

    def in_base64(self) -> str:
        """Return the pickle that is in memory."""
        return base64.b64encode(self._small.getbuffer()).decode()

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # a complete file was flushed before, and an incomplete one is removed
            self._file.close()
        if not self._complete:
            self._path.unlink(missing_ok=True)


@dataclass(slots=True)
class Value:
    """A return value in a journal, which is not loaded before somebody needs it."""

    kind: str
    """The field of the line that holds the value: `value`, `pickle`, `file` or `unrecorded`."""
    content: Any
    """The field's content."""
    journal: Path
    distrust: str = ""
    """Why pickles of the journal must not be loaded; empty: they may be."""

    @classmethod
    def of(cls, event: JobEnded, journal: Path, distrust: str) -> Value:
        """Return the value that the end of a job holds.

        Args:
            event: the end of a job that has finished.
            journal: the journal that has the event.
            distrust: why pickles of that journal must not be loaded; empty: they may be.
        """
        if event.pickle is not None:
            return cls("pickle", event.pickle, journal, distrust)
        if event.file is not None:
            return cls("file", event.file, journal, distrust)
        if event.unrecorded is not None:
            return cls("unrecorded", event.unrecorded, journal, distrust)
        return cls("value", event.value, journal, distrust)

    @property
    def is_pickled(self) -> bool:
        """Whether loading the value may run code."""
        return self.kind in ("pickle", "file")

    def load(self) -> Any:
        """Return the value.

        Raises:
            ConfigError: the value is a pickle that somebody else may have written.
            ValueError: the value could not be recorded.
            Exception: whatever unpickling raises, when the value's class has moved or changed or the pickle is damaged.
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
