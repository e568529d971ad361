"""What a process may use of its machine: CPUs, memory nodes and a share of time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from elastic_hydra.numa.cpus import online_cpus
from elastic_hydra.numa.errors import TopologyError
from elastic_hydra.numa.lists import parse_list
from elastic_hydra.numa.nodes import online_nodes
from elastic_hydra.numa.sysfs import read_list, read_text

log = logging.getLogger("elastic_hydra.numa")


@dataclass(frozen=True)
class Allowance:
    """CPUs and memory nodes that a job may use; of the machine, or of a slot cut from it."""

    cpus: frozenset[int]
    """CPUs by the kernel's numbers."""
    mems: frozenset[int]
    """Memory nodes by the kernel's numbers."""
    reserved: frozenset[int] = frozenset()
    """CPUs already kept back for the system: they are not in `cpus`, and are not reserved a second time."""
    quota: float | None = None
    """CPUs' worth of time that the container may use at once; None without a limit."""

    def without(self, other: Allowance) -> Allowance:
        """What is left when a slot is taken; memory nodes stay, since slots may share a node."""
        quota = self.quota if self.quota is None else self.quota - (other.quota or 0.0)
        return replace(self, cpus=self.cpus - other.cpus, quota=quota)

    def plus(self, other: Allowance) -> Allowance:
        """What is free again when a slot is given back."""
        quota = self.quota if self.quota is None else self.quota + (other.quota or 0.0)
        return replace(self, cpus=self.cpus | other.cpus, mems=self.mems | other.mems, quota=quota)

    def within(self, other: Allowance) -> Allowance:
        """What a slot still has when the process may use less than it did: CPUs can go away."""
        return replace(self, cpus=self.cpus & other.cpus, mems=self.mems & other.mems)


def read_allowance(root: str | Path = "/", pid: int | str = "self") -> Allowance:
    """Read what a process may use.

    The kernel's own answer is best: the affinity of the process, which its cpuset has already narrowed, and
    `Mems_allowed`. A dump of another machine has only the cpuset's files, for cgroup version 1 or 2.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.

    Returns:
        Its online CPUs, memory nodes and CPU quota.

    Raises:
        TopologyError: Nothing says which CPUs there are (macOS).
    """
    top = Path(root)
    folders = list(_cgroup_folders(top, "cpuset", pid))
    status = _status(top, pid)
    cpus = affinity(pid) if top == Path("/") else _list(status, "Cpus_allowed_list")
    mems = _list(status, "Mems_allowed_list")
    if cpus is None:
        cpus = _first(folders, "cpuset.cpus.effective", "cpuset.cpus", "cpus")
    if mems is None:
        mems = _first(folders, "cpuset.mems.effective", "cpuset.mems", "mems")
    online, nodes = _online(top), online_nodes(top)
    known = [numbers for numbers in (cpus, online) if numbers is not None]
    if not known:
        raise TopologyError(f"neither {top / 'sys'} nor this system says which CPUs there are")
    return Allowance(
        cpus=frozenset.intersection(*known), mems=nodes if mems is None else mems & nodes, quota=read_quota(root, pid)
    )


def affinity(pid: int | str = "self") -> frozenset[int] | None:
    """Return the CPUs that a process may run on; None where the system does not say (macOS)."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return frozenset(os.sched_getaffinity(0 if pid == "self" else int(pid)))


def _online(top: Path) -> frozenset[int] | None:
    try:
        return online_cpus(top)
    except TopologyError:  # a container without /sys: the affinity alone must do
        return None


def _status(top: Path, pid: int | str) -> dict[str, str]:
    lines = (read_text(top / "proc" / str(pid) / "status") or "").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _list(status: Mapping[str, str], key: str) -> frozenset[int] | None:
    text = status.get(key)
    try:
        return frozenset(parse_list(text)) if text else None
    except ValueError:
        _pass_over(key, text or "")
        return None


@cache
def _pass_over(name: str, text: str) -> None:
    """Say once that a file of the kernel, or of whoever stands in for it, holds what nobody understands."""
    log.warning("%s says %.80r, which makes no sense: passed over", name, text)


def _first(folders: list[Path], *names: str) -> frozenset[int] | None:
    """The first of the files that says something, in the process's own group before its ancestors."""
    for folder in folders:
        for name in names:
            found = read_list(folder / name)
            if found:
                return found
    return None


def _cgroup_folders(top: Path, controller: str, pid: int | str) -> Iterator[Path]:
    """The folder of the process's control group for a controller and its ancestors, version 1 before version 2."""
    for mount, version in _cgroup_mounts(top, controller):
        path = _cgroup_path(top, controller if version == 1 else "", pid)
        if path is not None:
            inner = Path(path.strip("/"))
            yield from (top / mount.strip("/") / part for part in (inner, *inner.parents))


def _cgroup_mounts(top: Path, controller: str) -> list[tuple[str, int]]:
    mounts = [line.split() for line in (read_text(top / "proc/mounts") or "").splitlines()]
    first = [
        (words[1], 1)
        for words in mounts
        if len(words) > 3 and (words[2] == controller or (words[2] == "cgroup" and controller in words[3].split(",")))
    ]
    return first + [(words[1], 2) for words in mounts if len(words) > 2 and words[2] == "cgroup2"]


def _cgroup_path(top: Path, controller: str, pid: int | str) -> str | None:
    for line in (read_text(top / "proc" / str(pid) / "cgroup") or "").splitlines():
        words = line.split(":", 2)
        if len(words) < 3:
            _pass_over(f"/proc/{pid}/cgroup", line)
        elif controller in words[1].split(","):
            return words[2]
    return read_text(top / "proc" / str(pid) / "cpuset") if controller in ("cpuset", "") else None


def read_quota(root: str | Path = "/", pid: int | str = "self") -> float | None:
    """Read how many CPUs' worth of time a process's control group and its ancestors allow; None without a limit.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    limits = []
    for folder in _cgroup_folders(Path(root), "cpu", pid):
        text = read_text(folder / "cpu.max") or " ".join(
            read_text(folder / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        words = text.split()
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            limits.append(int(words[0]) / int(words[1]))
        elif words and words[0] not in ("max", "-1"):  # versions 2 and 1 of "no limit"
            _pass_over(f"the CPU quota of {folder}", text)
    return min(limits, default=None)


def read_process_limit(root: str | Path = "/", pid: int | str = "self") -> int | None:
    """Read how many processes and threads a process's control group and its ancestors allow; None without a limit.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    texts = [read_text(folder / "pids.max") or "" for folder in _cgroup_folders(Path(root), "pids", pid)]
    return min((int(text) for text in texts if text.strip().isdecimal()), default=None)
