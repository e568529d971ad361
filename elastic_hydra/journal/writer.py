"""Writes the record of a sweep: one line of JSON for each event, only ever appended to."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.journal import lock, owner, values
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import Event, JobEnded
from elastic_hydra.journal.files import free, is_at, open_private
from elastic_hydra.journal.place import FILE_NAME

__all__ = ["FILE_NAME", "Journal", "append", "at_work", "claim", "path_of_another"]

log = logging.getLogger("elastic_hydra")


class Journal:
    """Writes the journal of one sweep, and keeps other launchers from writing it.

    Args:
        folder: the sweep's directory.
        shared: whether launchers on other nodes may use the same directory. Then the second launcher is not refused,
            but writes another journal there.
        key: that names the directory, for messages.

    Raises:
        ConfigError: another launcher is at work in that directory, or the directory cannot be written to.
    """

    def __init__(self, folder: Path, shared: bool = False, key: str = "hydra.sweep.dir") -> None:
        path, held = claim(folder, shared, key)
        try:
            fd = open_private(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise _not_writable(folder, key, error) from error
        self.path = path
        self.problem = ""
        """Why the journal is not complete, or not where it was; empty when all is well."""
        self.is_gone = False
        """Whether somebody has removed or moved the journal."""
        self.lock = held
        """The file descriptor that keeps other launchers out while any process has it open."""
        self._fd = fd
        self._begin = self.position()
        weakref.finalize(self, os.close, fd).atexit = False
        self._unwritten: list[bytes | _End] = []

    def position(self) -> int:
        """Return the position of the next line, in bytes; 0 if the file system does not answer now."""
        with contextlib.suppress(OSError):
            return os.fstat(self._fd).st_size
        return 0

    def take_back(self) -> None:
        """Have the file as it was before this object was made; where there was none, leave none."""
        with contextlib.suppress(OSError):
            if self._begin:
                os.ftruncate(self._fd, self._begin)
            else:
                self.path.unlink()
                lock.remove(self.path)

    @property
    def folder(self) -> Path:
        """The sweep's directory, even after somebody has moved it."""
        with contextlib.suppress(OSError):
            if self.is_gone and os.fstat(self._fd).st_nlink:
                return Path(os.readlink(f"/proc/self/fd/{self._fd}")).parent
        return self.path.parent

    def write(self, event: Event, *, durable: bool = False) -> None:
        """Append the line of an event. A line that cannot be written now is kept for later, see `flush`.

        Args:
            event: what happened.
            durable: whether the line must survive even a crash of the machine, which takes milliseconds.

        Raises:
            TypeError: the event has a value that JSON does not know.
        """
        self._unwritten.append(encode(event))
        self.flush(durable=durable)

    def write_end(self, event: JobEnded, value: Any) -> None:
        """Append the line of a job's end. It is durable; a line that cannot be written now is kept for later.

        Args:
            event: how the job ended.
            value: what the job has returned, if it has finished.
        """
        self._unwritten.append(_End(self.path, event, value))
        if self.flush(durable=True):
            values.forget_older(self.path, event.num)

    def flush(self, *, durable: bool = False) -> bool:
        """Write the lines that could not be written before, and check that the journal is still in its place.

        Args:
            durable: whether the lines must survive even a crash of the machine.

        Returns:
            whether all is well. If not, `problem` says why; the first time, the log says it as well.
        """
        written: list[bytes] = []
        try:
            while self._unwritten:
                line = self._unwritten[0]
                if isinstance(line, _End):
                    line = self._unwritten[0] = line.line()
                _append(self._fd, line)
                written.append(line)
                del self._unwritten[0]
            if durable:
                os.fsync(self._fd)
            self.is_gone = not is_at(self._fd, self.path)
            problem = self._where_to() if self.is_gone else ""
        except OSError as error:
            if durable and not self._unwritten:
                # Nobody knows whether these lines have reached the disk. To write them twice does no harm.
                self._unwritten += written
            self._open_again(error)
            problem = f"{self.path} cannot be written: {error}{self._room_needed(error)}"
        if problem and not self.problem:
            log.error("%s: no further job is started until that is over", problem)
        elif self.problem and not problem:
            log.warning("%s can be written again, and nothing is missing in it", self.path)
        self.problem = problem
        return not problem

    def flush_patiently(self) -> bool:
        """Write what could not be written before; if it cannot be written now either, try for some seconds."""
        deadline = time.monotonic() + timeouts.JOURNAL
        while not self.flush(durable=True):
            if self.is_gone or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def missing(self) -> bool:
        """Whether lines could not be written yet."""
        return bool(self._unwritten)

    def _where_to(self) -> str:
        if not os.fstat(self._fd).st_nlink:
            return f"{self.path} was removed while the sweep ran: what is in it, and what follows, is lost"
        return f"{self.path} was moved to {self.folder} while the sweep ran: the sweep's record is there"

    def _room_needed(self, error: OSError) -> str:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return ""
        needed = sum(line.size() if isinstance(line, _End) else len(line) for line in self._unwritten)
        return f"; {bytes_in_words(needed)} are needed there, and {bytes_in_words(free(self.path.parent))} are free"

    def _open_again(self, error: OSError) -> None:
        """Open the file again if a network file system has declared the file descriptor invalid."""
        if error.errno != errno.ESTALE:
            return
        with contextlib.suppress(OSError):  # the next `flush` tries again
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)


@dataclass
class _End:
    """A job's end that is not written yet. Its return value is encoded when it is written, and not before."""

    path: Path
    """The journal."""
    event: JobEnded
    value: Any
    """What the job has returned."""

    def line(self) -> bytes:
        """Return the line. A large value is written to its file now."""
        finished = self.event.state == "finished"
        return encode(values.with_value(self.event, self.value, self.path) if finished else self.event)

    def size(self) -> int:
        """Estimate how many bytes the line and its file will take."""
        return 1000 + values.size(self.value)


def claim(folder: Path, shared: bool, key: str) -> tuple[Path, int]:
    """Keep other launchers from a sweep's directory for as long as this process, or a fork of it, lives.

    Args:
        folder: the sweep's directory; it is made if need be.
        shared: whether launchers on other nodes may use it as well.
        key: that names the directory, for messages.

    Returns:
        the journal that is this launcher's, and the file descriptor that keeps others out.

    Raises:
        ConfigError: another launcher is at work in that directory, or the directory cannot be written to.
    """
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        other = owner.owner_of(path)
        elsewhere = shared and other is not None and not other.is_here
        held = None if elsewhere else lock.acquire(path)
        if held is None and shared:
            path = path_of_another(folder, os.getpid())
            held = lock.acquire(path)
    except OSError as error:
        raise _not_writable(folder, key, error) from error
    if held is None:
        raise at_work(folder, key)
    return path, held


def at_work(folder: Path, key: str) -> ConfigError:
    """Return what refuses a sweep's directory in which another launcher is at work.

    Args:
        folder: the directory.
        key: that names it.
    """
    return ConfigError(
        f"{key}={folder}: another launcher, or a worker of it, is still at work there. Wait for it, stop it, or choose "
        "another directory"
    )


def _not_writable(folder: Path, key: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{key}={folder}: the sweep's journal cannot be written there ({error}). Make it writable, or choose another "
        "directory"
    )


def path_of_another(folder: Path, pid: int) -> Path:
    """Return where a launcher on this host writes if one on another node has the journal of the directory they share.

    Args:
        folder: the sweep's directory.
        pid: the launcher's.
    """
    return folder / f"journal.{os.uname().nodename}.{pid}.jsonl"


def append(path: Path, event: Event) -> None:
    """Append the line of an event to the journal of another process, as agents do to that of their launcher.

    Args:
        path: the journal.
        event: what happened.

    Raises:
        OSError: the line could not be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        _append(fd, encode(event))
    finally:
        os.close(fd)


def _append(fd: int, line: bytes) -> None:
    """Append a line in one piece, so that lines of several processes do not mix.

    If the file ends with half a line, the new line begins behind a newline.
    """
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line  # a writer has died in the middle of its line, or the disk was full
    while line:
        line = line[os.write(fd, line) :]
