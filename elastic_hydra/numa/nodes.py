"""NUMA nodes: their CPUs, memory and distances.

Read from /sys/devices/system/node (the kernel's Documentation/ABI/stable/sysfs-devices-node). Not every node has CPUs:
some are memory alone, some are the memory of a GPU, and buggy firmware gives the same CPUs to two nodes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from elastic_hydra.numa.sysfs import folders, numbered, read_list, read_set, read_text

_NODE = "sys/devices/system/node"
_NVIDIA = "proc/driver/nvidia/gpus"
LOCAL, REMOTE = 10, 20
"""Distances as in ACPI's table SLIT: 10 is local, and firmware that does not know a distance writes 20."""


@dataclass(frozen=True)
class Node:
    """One NUMA node."""

    id: int
    cpus: frozenset[int]
    """Online CPUs; empty for a memory-only node."""
    memory: int | None
    """Bytes of memory; 0 for a node without memory, None where the kernel does not say."""
    distances: Mapping[int, int] = field(default_factory=dict)
    """Distance to each node, 10 is local."""
    mems: tuple[int, ...] = ()
    """The kernel's numbers of the memory nodes that belong to it: its own number, and further ones where firmware gives
    several nodes the same CPUs; empty where the kernel has no NUMA support."""
    initiators: tuple[int, ...] = ()
    """The nodes that reach the memory of a memory-only node fastest; empty where the firmware does not tell (HMAT)."""


def read_nodes(top: Path, online: frozenset[int]) -> dict[int, Node]:
    """The nodes that are online, by number, without those made of a GPU's memory; one node where the kernel has none.

    Args:
        top: Folder with the machine's `sys` and `proc`.
        online: The CPUs that are online.
    """
    listed = _folders(top)
    if not listed:
        return {0: Node(0, online, _memory(top / "proc/meminfo"), {0: LOCAL}, ())}
    numbers = [number for number, _ in listed]
    of_gpus = _gpu_memory(top)
    nodes: dict[int, Node] = {}
    owner: dict[int, int] = {}
    for number, folder in listed:
        if number in of_gpus:
            continue
        claimed = (read_set(folder, "cpu") or frozenset()) & online
        cpus = frozenset(cpu for cpu in claimed if cpu not in owner)
        if claimed and not cpus:  # buggy firmware repeats the CPUs of an earlier node: only the memory is new
            first = owner[min(claimed)]
            nodes[first] = _with_memory(nodes[first], number, _memory(folder / "meminfo"))
            continue
        owner.update(dict.fromkeys(cpus, number))
        words = (read_text(folder / "distance") or "").split()
        distances = [int(word) for word in words if word.isdecimal()]
        known = dict(zip(numbers, distances, strict=True)) if len(distances) == len(numbers) else {}
        nodes[number] = Node(number, cpus, _memory(folder / "meminfo"), known, (number,), _initiators(folder))
    return nodes


def online_nodes(top: Path) -> frozenset[int]:
    """The kernel's numbers of the nodes that are online; empty where the kernel has no NUMA support."""
    return frozenset(number for number, _ in _folders(top))


def _folders(top: Path) -> list[tuple[int, Path]]:
    """The folders of the nodes that are online, with the nodes' numbers.

    The file `possible` is of no use, since it names nodes that do not exist. Folders of offline nodes may still exist.
    """
    alive = read_list(top / _NODE / "online")
    return [entry for entry in numbered(top / _NODE, "node") if alive is None or entry[0] in alive]


def _initiators(folder: Path) -> tuple[int, ...]:
    """The initiators of a node's memory: those of class 1, which are CPUs, else those of class 0, CPUs and devices."""
    for name in ("access1", "access0"):
        numbers = tuple(number for number, _ in numbered(folder / name / "initiators", "node"))
        if numbers:
            return numbers
    return ()


def _with_memory(node: Node, number: int, memory: int | None) -> Node:
    total = None if node.memory is None or memory is None else node.memory + memory
    return replace(node, memory=total, mems=(*node.mems, number))


def _gpu_memory(top: Path) -> frozenset[int]:
    """Nodes that are the memory of an NVIDIA GPU (POWER9, Grace Hopper). A program's own memory must not lie there."""
    statuses = [read_text(folder / "numa_status") or "" for folder in folders(top / _NVIDIA)]
    lines = [line.partition(":") for status in statuses for line in status.splitlines()]
    return frozenset(int(value) for key, _, value in lines if key.strip() == "Node" and value.strip().isdecimal())


def _memory(path: Path) -> int | None:
    """`MemTotal` in bytes, from the meminfo file of a node or of the machine; None where the file does not say it."""
    match = re.search(r"^(?:Node\s+\d+\s+)?MemTotal:\s+(\d+)", read_text(path) or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None
