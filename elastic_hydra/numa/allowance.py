"""What a process may use of its machine: CPUs, memory nodes and a share of time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from elastic_hydra.config.lists import parse_list
from elastic_hydra.numa.cgroup import cpu_quota, cpuset, warn_once
from elastic_hydra.numa.cpus import online_cpus
from elastic_hydra.numa.errors import TopologyError
from elastic_hydra.numa.nodes import online_nodes
from elastic_hydra.numa.sysfs import read_text


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
    status = _status(top, pid)
    cpus = affinity(pid) if top == Path("/") else _list(status, "Cpus_allowed_list")
    mems = _list(status, "Mems_allowed_list")
    if cpus is None:
        cpus = cpuset("cpus", root, pid)
    if mems is None:
        mems = cpuset("mems", root, pid)
    online, nodes = _online(top), online_nodes(top)
    known = [numbers for numbers in (cpus, online) if numbers is not None]
    if not known:
        raise TopologyError(f"neither {top / 'sys'} nor this system says which CPUs there are")
    return Allowance(
        cpus=frozenset.intersection(*known), mems=nodes if mems is None else mems & nodes, quota=cpu_quota(root, pid)
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
        warn_once(key, text or "")
        return None
