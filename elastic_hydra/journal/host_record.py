"""On which other hosts something of a sweep may run: a launcher that starts later learns it from files alone.

The lock of a journal tells of processes on the launcher's own host. So a launcher leaves a record beside the journal
for each other host before it starts anything there. The host removes the record when it has ended everything, be its
launcher there or not. A launcher that finds records, and holds the lock, knows that their launcher is gone: it waits
until the records are gone as well, or for as long as such a host can live without a launcher. It measures that time
itself, from its own start, so nobody compares the clocks of two hosts.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from elastic_hydra.journal.files import replace_durably

__all__ = ["HostRecord", "await_end"]

_LOOK_INTERVAL = 0.25
"""Seconds between two looks at the records."""


@dataclass(frozen=True)
class _Content:
    """What a record says."""

    host: str
    lasts: float
    """Seconds after the end of the launcher after which nothing runs on the host any more."""
    launcher_pid: int = field(default_factory=os.getpid)
    launcher_host: str = field(default_factory=lambda: os.uname().nodename)


class HostRecord:
    """The record of one host, which is there from the first `write` until the launcher or the host removes it.

    Args:
        journal: of the sweep.
    """

    def __init__(self, journal: Path) -> None:
        self.path = f"{_stem(journal)}.{secrets.token_hex(8)}"
        self._lasts = 0.0

    def write(self, host: str, lasts: float) -> None:
        """Say that something may run on a host; one that has said so for longer stays as it is.

        Args:
            host: its name.
            lasts: seconds after the end of this process after which nothing runs there any more.

        Raises:
            OSError: it cannot be written.
        """
        if lasts > self._lasts:
            replace_durably(Path(self.path), json.dumps(asdict(_Content(host, lasts))).encode())
            self._lasts = lasts

    def remove(self) -> None:
        """Say that nothing runs there any more."""
        if self._lasts:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def await_end(journal: Path, say: Callable[[str], None]) -> None:
    """Wait until nothing runs on other hosts any more of a launcher that is gone.

    Args:
        journal: of the sweep. This process holds its lock.
        say: is told what it waits for, and how to go on at once.

    Raises:
        OSError: the records cannot be read or removed.
    """
    begun, said = time.monotonic(), False
    while found := _found(journal):
        waited = time.monotonic() - begun
        for path in [path for path, content in found.items() if waited >= content.lasts]:
            path.unlink(missing_ok=True)
            del found[path]
        if found and not said:
            say(_in_words(journal, list(found.values())))
            said = True
        if found:
            time.sleep(_LOOK_INTERVAL)


def _in_words(journal: Path, found: list[_Content]) -> str:
    launchers = sorted({f"the launcher on host {each.launcher_host} (pid {each.launcher_pid})" for each in found})
    hosts = ", ".join(sorted({each.host for each in found}))
    longest = max(each.lasts for each in found)
    return (
        f"{' and '.join(launchers)} is gone, and what it had started on {hosts} may still run: waiting until that has "
        f"ended, {longest:g} s at most. If you know that nothing runs there any more, remove {_stem(journal)}.*"
    )


def _found(journal: Path) -> dict[Path, _Content]:
    stem = _stem(journal)
    found = {}
    for path in stem.parent.glob(f"{stem.name}.*"):
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # gone, or another version's
            found[path] = _Content(**json.loads(path.read_text()))
    return found


def _stem(journal: Path) -> Path:
    return journal.absolute().with_suffix(".host")
