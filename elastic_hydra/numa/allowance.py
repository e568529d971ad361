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
    """CPUs and memory nodes that a job may use: those of the whole machine, or those of a slot cut from it."""

    cpus: frozenset[int]
    """CPUs by the kernel's numbers."""
    mems: frozenset[int]
    """Memory nodes by the kernel's numbers."""
    reserved: frozenset[int] = frozenset()
    """CPUs already kept back for the system: they are not in `cpus`, and are not reserved a second time."""
    quota: float | None = None
    """CPUs' worth of time that the container may use at once; None without a limit."""

    def without(self, slot: Allowance) -> Allowance:
        """What is left when a slot is taken. The memory nodes stay, since slots may share a node."""
        quota = self.quota if self.quota is None else self.quota - (slot.quota or 0.0)
        return replace(self, cpus=self.cpus - slot.cpus, quota=quota)

    def plus(self, slot: Allowance) -> Allowance:
        """What is free when a slot has been given back."""
        quota = self.quota if self.quota is None else self.quota + (slot.quota or 0.0)
        return replace(self, cpus=self.cpus | slot.cpus, mems=self.mems | slot.mems, quota=quota)

    def within(self, allowed: Allowance) -> Allowance:
        """The part of a slot that the process may still use: CPUs can go away while a sweep runs."""
        return replace(self, cpus=self.cpus & allowed.cpus, mems=self.mems & allowed.mems)


def read_allowance(root: str | Path = "/", pid: int | str = "self") -> Allowance:
    """Read what a process may use.

    The kernel's own answer comes first: the affinity of the process, which its cpuset has already narrowed, and
    `Mems_allowed`. Where they are missing, as in a dump of another machine, the files of the cpuset are read.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.

    Returns:
        Its online CPUs, memory nodes and CPU quota.

    Raises:
        TopologyError: Neither files nor the operating system say which CPUs there are (macOS).
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
    limits = [numbers for numbers in (cpus, online) if numbers is not None]
    if not limits:
        raise TopologyError(f"neither {top / 'sys'} nor this system says which CPUs there are")
    return Allowance(
        cpus=frozenset.intersection(*limits), mems=nodes if mems is None else mems & nodes, quota=cpu_quota(root, pid)
    )


def affinity(pid: int | str = "self") -> frozenset[int] | None:
    """Return the CPUs that a process may run on; None where the system does not say (macOS)."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return frozenset(os.sched_getaffinity(0 if pid == "self" else int(pid)))


def _online(top: Path) -> frozenset[int] | None:
    try:
        return online_cpus(top)
    except TopologyError:  # a container without /sys: the affinity alone counts
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
