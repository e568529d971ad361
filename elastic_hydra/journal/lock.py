"""The lock that keeps a second launcher out of a sweep's directory."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from pathlib import Path

from elastic_hydra.journal.files import is_at, open_private

__all__ = ["acquire", "is_held", "is_held_by_another", "remove"]

log = logging.getLogger("elastic_hydra")

_LOOKS = (0.005, 0.05, 0.1)
"""Seconds to wait for the end of a look at the lock by others, which takes microseconds unless the machine is busy."""

_held: dict[str, int] = {}
"""The locks that this process holds until it ends: file descriptors by path."""


def acquire(path: Path) -> int | None:
    """Take the lock of a journal, for as long as this process or a fork of it lives.

    The lock is on a separate file that only its owner can open. Anybody who may read a file can lock it, and the
    journal itself may be readable for others.

    Args:
        path: the journal; the lock's file is beside it.

    Returns:
        the file descriptor that holds the lock; None: another launcher, or one of its workers, holds the lock.

    Raises:
        OSError: the file cannot be opened.
    """
    path = _lock_of(path)
    if (fd := _held.get(str(path))) is not None and is_at(fd, path):
        return fd
    while True:
        fd = open_private(path, os.O_RDWR)
        try:
            # The lock belongs to the open file, which forked workers inherit. So no other launcher starts while workers
            # that have lost their launcher still write.
            _take(fd)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError as error:
            log.warning("%s cannot be locked (%s): take care that no second launcher uses its directory", path, error)
        if is_at(fd, path):
            break
        os.close(fd)  # its holder has removed it meanwhile
    _held[str(path)] = fd
    return fd


def remove(path: Path) -> None:
    """Give the lock of a journal back, and remove its file; only for a launcher that has no workers.

    Args:
        path: the journal.

    Raises:
        OSError: the file cannot be removed.
    """
    path = _lock_of(path)
    if (fd := _held.pop(str(path), None)) is not None:
        path.unlink()
        os.close(fd)


def is_held(path: Path) -> bool | None:
    """Whether any process holds the lock of a journal.

    Args:
        path: the journal.

    Returns:
        None: that cannot be seen, since the lock is another user's, or the file system has no locks.
    """
    try:
        fd = os.open(_lock_of(path), os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def is_held_by_another(path: Path) -> bool:
    """Whether another process holds the lock of a journal: another launcher, or one of its workers.

    Args:
        path: the journal.
    """
    return str(_lock_of(path)) not in _held and is_held(path) is True


def _take(fd: int) -> None:
    """Lock an open file for this process alone.

    Raises:
        BlockingIOError: another process holds the lock for longer than `is_held` does, which takes it for a moment.
        OSError: the file system has no locks.
    """
    for pause in _LOOKS:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(pause)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_of(path: Path) -> Path:
    return path.absolute().with_suffix(".lock")
