"""A file in the sweep's directory, by whose text a host shows that it sees the same directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

from elastic_hydra.config.errors import ConfigError

__all__ = ["TokenFile"]


_PREFIX = ".host_check_"
_OLD = 86400.0
"""Seconds after which such a file is taken for one of a launcher that was killed; one that lives writes it again."""


class TokenFile:
    """The file, which is there from the first `write` to `remove`.

    Args:
        folder: the sweep's directory; it is made if need be.
        key: that names the directory, for messages.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key
        self.token = secrets.token_hex(16)
        self.path = folder / f"{_PREFIX}{self.token[:8]}"
        self._is_written = False

    def write(self) -> None:
        """Write it, unless it is there, and remove those of launchers that were killed long ago.

        Raises:
            ConfigError: the directory cannot be written to.
        """
        if self._is_written and self.path.exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_old()
            self.path.write_text(self.token)
        except OSError as error:
            raise ConfigError(
                f"{self.key}={self.folder}: cannot be written to ({error}). Make it writable, or choose another one"
            ) from error
        self._is_written = True

    def _remove_old(self) -> None:
        for other in self.folder.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):  # another launcher does the same
                if other.stat().st_mtime < time.time() - _OLD:
                    other.unlink()

    def remove(self) -> None:
        """Remove it, and the directory if nothing else is in it."""
        if not self._is_written:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
            os.rmdir(self.folder)
        self._is_written = False
