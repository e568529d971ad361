"""Files that only their owner may read and change: they hold pickles, which run code when they are read, and tokens."""

from __future__ import annotations

import os
import pwd
import stat

__all__ = ["distrust", "free", "is_at", "open_private"]


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, and make it if it is not there: for its owner only, whatever the umask says.

    A file that is there keeps its mode: its owner may have let others read it.

    Args:
        path: of the file.
        flags: as for `os.open`.

    Returns:
        the file descriptor.

    Raises:
        OSError: it can be neither opened nor made.
    """
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT, 0o600)
    os.fchmod(fd, 0o600)  # the umask has taken away from what was asked for
    return fd


def is_at(fd: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file is still the one that a path leads to.

    Raises:
        OSError: that cannot be found out now.
    """
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def distrust(fd: int) -> str:
    """Say why the content of an open file may be somebody else's, and what to do about that.

    What counts is the open file, not its path: whoever may write into the directory can put another file in its place,
    but not one that belongs to us, and nobody else has written that one.

    Args:
        fd: the open file.

    Returns:
        a clause and the way out; empty when only this user (and root) can have written it.
    """
    status, user = os.fstat(fd), os.geteuid()
    if status.st_uid != user:
        mine = "make it root's with chown" if user == 0 else f"have it made {_name(user)}'s with chown"
        return f"belongs to {_name(status.st_uid)}, and this is {_name(user)}: if you trust what is in it, {mine}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        return f"can be written by others (mode {mode:04o}): if you trust what is in it, say chmod go-w on it"
    return ""


def free(path: str | os.PathLike[str]) -> int:
    """Return how much room there is where a path is, or will be, in bytes.

    Raises:
        OSError: that cannot be found out now.
    """
    place = os.path.abspath(path)
    while not os.path.lexists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    if disk.f_files and not (disk.f_ffree if os.geteuid() == 0 else disk.f_favail):
        return 0  # there is room, but no further file can be made
    return disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
