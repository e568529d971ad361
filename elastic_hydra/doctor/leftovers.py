"""Processes of sweeps whose launcher is dead: the kernel or the server should have ended them.

Two signs show such a process. It holds the lock of a journal, which every process of a sweep inherits. Or it is a
program that bears the mark which workers pass on, and init is the parent of the oldest one of its line that bears it.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.doctor.finding import Finding, warning, well
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.supervisor.remains import TOKEN

__all__ = ["look"]

_PART = "leftovers"
_LOCK = Path(FILE_NAME).with_suffix(".lock").name
_INITS = ("systemd", "init", "tini", "dumb-init", "docker-init")


def look() -> Iterator[Finding]:
    """Yield the processes of this user that are left of dead sweeps."""
    found: dict[str, list[psutil.Process]] = {}
    launcher = functools.cache(_launcher)  # all processes of a sweep hold the lock of one journal
    for process in psutil.process_iter():
        try:
            whose = _dead_sweep(process, launcher)
        except (psutil.Error, OSError):
            continue  # it has ended meanwhile, or is another user's
        if whose:
            found.setdefault(whose, []).append(process)
    for whose, processes in found.items():
        shown = ", ".join(f"{process.pid} ({_name(process)})" for process in processes[:5])
        more = f" and {len(processes) - 5} more" if len(processes) > 5 else ""
        pids = " ".join(str(process.pid) for process in processes)
        yield warning(_PART, f"processes of {whose}: {shown}{more}", f"if nothing needs them: kill {pids}")
    if not found:
        yield well(_PART, "no process of a dead sweep")


def _dead_sweep(process: psutil.Process, launcher_of: Callable[[Path], int | None]) -> str:
    """Say of which dead sweep a process is left; empty: it is none of that kind.

    Args:
        process: any.
        launcher_of: returns the process id of a journal's launcher; None: it is unknown.
    """
    for lock in _locks(process.pid):
        launcher = launcher_of(Path(lock).with_suffix(".jsonl"))
        if launcher is not None and not psutil.pid_exists(launcher):
            return f"the sweep in {Path(lock).parent}, whose launcher ({launcher}) is dead"
        if launcher is not None:
            return ""
    return "a launch that is over" if TOKEN in process.environ() and _is_adopted(process) else ""


def _locks(pid: int) -> Iterator[str]:
    for fd in os.listdir(f"/proc/{pid}/fd") if os.path.isdir("/proc/self/fd") else ():
        target = _target(f"/proc/{pid}/fd/{fd}")
        if os.path.basename(target) == _LOCK:
            yield target


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # closed meanwhile


def _launcher(journal: Path) -> int | None:
    """Return the process id of the last launcher that has written a journal; None: unknown, or on another host."""
    try:
        begun = [event for _, event in Lines(journal) if isinstance(event, SweepBegan)]
    except ConfigError:
        return None  # a newer version has written it
    return begun[-1].pid if begun and begun[-1].host in ("", socket.gethostname()) else None


def _is_adopted(process: psutil.Process) -> bool:
    """Whether init has become the parent of the oldest process of this one's line that bears the mark."""
    parent = process.parent()
    while parent is not None and parent.pid != 1 and TOKEN in _environment(parent):
        parent = parent.parent()
    return parent is None or parent.pid == 1 or parent.name() in _INITS


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:3]) or process.name()
    except psutil.Error:
        return "?"
