"""Whether folders that a sweep is going to write into can be written, before it starts."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from elastic_hydra.config.errors import ConfigError

__all__ = ["may_be_folder", "refuse_unwritable"]


def refuse_unwritable(key: str, value: str, folder: Path) -> None:
    """Refuse a folder in which nothing can be made, or which cannot be made itself.

    It is tried, since permission bits do not bind root, and say nothing of read-only and virtual file systems. What is
    tried leaves nothing behind, and is not where another node may be looking at the same time.

    Args:
        key: that names the folder.
        value: of the key, as it was given.
        folder: absolute; it need not be there yet.

    Raises:
        ConfigError: with the reason.
    """
    existing = folder
    try:
        existing = _nearest_that_exists(folder)
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is in the way and is no folder")
        if _has_too_long_name(folder, existing):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        os.rmdir(tempfile.mkdtemp(prefix=".elastic_hydra.", dir=existing))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = "" if existing == folder else f" in {existing}"
        raise ConfigError(f"{key}={value}: nothing can be written{where}: {reason}; choose another folder") from error


def may_be_folder(path: Path) -> bool:
    """Whether a path leads to a folder or to nothing yet; not when its name is too long or something is in the way."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return not path.is_symlink() and not _has_too_long_name(path, _nearest_that_exists(path))
    except (OSError, ValueError):
        return False


def _nearest_that_exists(folder: Path) -> Path:
    while not _is_there(folder):
        folder = folder.parent
    return folder


def _has_too_long_name(folder: Path, existing: Path) -> bool:
    """Whether a folder that is not made yet has a name that its file system refuses.

    Args:
        folder: with parents that need not exist.
        existing: the nearest of these parents that does.
    """
    longest = os.pathconf(existing, "PC_NAME_MAX")
    return any(len(os.fsencode(name)) > longest for name in folder.relative_to(existing).parts)


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
