"""Who is at work in a sweep's directory, for launchers on other hosts: the lock of a journal may hold on one host only.

A launcher in a batch system, or with jobs on other hosts, leaves a record beside the journal, and renews it. A launcher
elsewhere that finds a record waits until the other one says that it has ended, or until the record has stood still for
so long that nothing of the other one can run any more: who is in a batch system, and cannot renew its own record, ends
before that. Nobody compares the clocks of two hosts.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from elastic_hydra.journal.files import replace_durably

__all__ = ["Owner", "await_end", "owner_of", "remove", "write"]

_LOOK_INTERVAL = 0.5
"""Seconds between two looks at the record of another launcher."""


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@dataclass(frozen=True)
class Owner:
    """A launcher that is at work in a sweep's directory."""

    id: str
    """Unlike that of any other launcher."""
    lasts: float
    """Seconds without a renewal after which nothing of it runs any more."""
    slurm_job: str = ""
    """Id of the Slurm job that it runs in."""
    restarts: int = 0
    """How many times Slurm had started that job anew."""
    renewals: int = 0
    """How many times the record was renewed."""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=lambda: os.uname().nodename)
    boot: str = field(default_factory=_boot)
    """Of the kernel that it runs on, whose locks tell everything about it."""

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"the launcher on host {self.host} (pid {self.pid}{job})"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host, so that the lock of the journal says whether it lives."""
        return (self.host, self.boot) == (os.uname().nodename, _boot())


def owner_of(journal: Path) -> Owner | None:
    """Return who is at work with a journal; None: nobody, as far as records tell.

    Raises:
        OSError: the record cannot be read.
    """
    try:
        return Owner(**json.loads(_path(journal).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # another version has written it


def write(journal: Path, owner: Owner) -> None:
    """Write the record of a journal's owner, in one step and so that other hosts see it.

    Raises:
        OSError: it cannot be written.
    """
    replace_durably(_path(journal), json.dumps(asdict(owner)).encode())


def remove(journal: Path, owner_id: str) -> None:
    """Remove the record of an owner that has ended, unless it is another one's by now."""
    with contextlib.suppress(OSError):
        if (owner := owner_of(journal)) is not None and owner.id == owner_id:
            _path(journal).unlink()


def await_end(journal: Path, slurm_job: str, restarts: int, say: Callable[[str], None]) -> Owner | None:
    """Wait until a launcher on another host that has left a record is certainly gone.

    Args:
        journal: of the sweep.
        slurm_job: the Slurm job of this process; empty: it is in none.
        restarts: how many times Slurm has started that job anew.
        say: is told why it waits.

    Returns:
        who is at work there, and lives; None: nobody. The launcher of an earlier life of the same Slurm job is waited
        for, as long as it lives: its job has started again, so it is about to end.
    """
    seen, since = owner_of(journal), time.monotonic()
    said = False
    while seen is not None and not seen.is_here:
        if slurm_job and (seen.slurm_job, seen.restarts) == (slurm_job, restarts):
            return None  # it is on a node of the same job, where each launcher has a journal of its own
        if time.monotonic() - since >= seen.lasts:
            return None
        if not said:
            say(f"waiting until {seen} says that it has ended, or has been silent for {seen.lasts:g} s")
            said = True
        time.sleep(_LOOK_INTERVAL)
        latest = owner_of(journal)
        if latest != seen:
            if latest is not None and not (slurm_job and latest.slurm_job == slurm_job):
                return latest
            seen, since = latest, time.monotonic()
    return None


def _path(journal: Path) -> Path:
    return journal.absolute().with_suffix(".owner")
