"""Files that exist in no directory, so that nothing is left however their users end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

__all__ = ["anonymous_file", "file_with", "path_of", "take_content"]


def anonymous_file(name: str) -> int:
    """Open a new one.

    Args:
        name: shown in /proc only.

    Returns:
        the file descriptor; in memory on Linux, in the temporary directory elsewhere.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@contextlib.contextmanager
def file_with(data: bytes, name: str) -> Iterator[int]:
    """Have a file with some content while its file descriptor is sent to another process.

    Args:
        data: the content.
        name: shown in /proc only.
    """
    fd = anonymous_file(name)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        yield fd
    finally:
        os.close(fd)


def take_content(fd: int) -> bytes:
    """Read all of a file, wherever its writer has left the position that both share, and close it."""
    with open(fd, "rb", buffering=0) as file:
        file.seek(0)
        return file.readall()


def path_of(fd: int) -> str:
    """Return the path by which other processes open what this one has open: no file descriptor is passed on for it."""
    return f"/proc/{os.getpid()}/fd/{fd}"
