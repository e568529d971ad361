"""Files that only their owner may read and change: some hold pickles, which run code when they are read, or tokens."""

from __future__ import annotations

import os
import pwd
import secrets
import stat
from pathlib import Path

__all__ = ["distrust", "free", "is_at", "open_private", "replace_durably", "user_name"]


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file. If it does not exist, create it for its owner only, whatever the umask says.

    A file that exists keeps its mode, since its owner may have allowed others to read it.

    Args:
        path: the file's path.
        flags: as for `os.open`.

    Returns:
        the file descriptor.

    Raises:
        OSError: the file can be neither opened nor created.
    """
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT, 0o600)
    os.fchmod(fd, 0o600)  # the umask may have removed bits of the mode above
    return fd


def replace_durably(path: Path, data: bytes) -> None:
    """Write a small file in one step, for its owner only, and so that other hosts see it.

    Raises:
        OSError: it cannot be written; then the file is as it was.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = open_private(new, os.O_WRONLY)
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def is_at(fd: int, path: str | os.PathLike[str]) -> bool:
    """Whether a path still leads to an open file: it may have been moved, removed or replaced.

    Raises:
        OSError: the file system does not answer now.
    """
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def distrust(fd: int) -> str:
    """Say why the content of an open file may be somebody else's, and what to do about that.

    The owner of the open file counts, and not its path. Whoever may write into the directory can put another file in
    its place, but cannot make this user the owner of that file.

    Args:
        fd: the open file.

    Returns:
        a clause that continues the file's name, with the way out; empty when only this user and root can have written
        the file.
    """
    status, user = os.fstat(fd), os.geteuid()
    if status.st_uid != user:
        name = user_name(user)
        way_out = "make it root's with chown" if user == 0 else f"have it made {name}'s with chown"
        return f"belongs to {user_name(status.st_uid)}, and this is {name}: if you trust what is in it, {way_out}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        return f"can be written by others (mode {mode:04o}): if you trust what is in it, say chmod go-w on it"
    return ""


def free(path: str | os.PathLike[str]) -> int:
    """Return how many bytes are free on the disk of a path, which need not exist yet.

    Raises:
        OSError: the file system does not answer now.
    """
    place = os.path.abspath(path)
    while not os.path.lexists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    if disk.f_files and not (disk.f_ffree if os.geteuid() == 0 else disk.f_favail):
        return 0  # bytes may be free, but the disk takes no further file
    return disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)


def user_name(user: int) -> str:
    """Return the name of a user, or the number where there is no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
