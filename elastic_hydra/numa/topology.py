"""What the machine has: CPUs, cores, caches, packages, NUMA nodes and accelerators, read from Linux' sysfs.

On real machines many of these files are missing, have other names or contradict each other; each reader says which of
these cases it handles. Only the list of CPUs is required.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from elastic_hydra.numa.cpus import Cpu, online_cpus, read_cpus
from elastic_hydra.numa.nodes import LOCAL, REMOTE, Node, read_nodes
from elastic_hydra.numa.pci import Device, read_devices

__all__ = ["Device", "Level", "Topology", "read_topology"]

Level = Literal["package", "node", "llc", "core"]


@dataclass(frozen=True)
class Topology:
    """One machine; only what is online."""

    cpus: Mapping[int, Cpu]
    nodes: Mapping[int, Node]
    devices: tuple[Device, ...]
    """Display controllers, accelerators and co-processors by PCI address."""

    def distance(self, first: int, second: int) -> int:
        """The distance between two nodes: 10 for the same, more for farther ones, 20 where the kernel does not say."""
        default = LOCAL if first == second else REMOTE
        return self.nodes[first].distances.get(second, default) if first in self.nodes else default

    def nearest(self, node: int, candidates: Iterable[int]) -> tuple[int, ...]:
        """The candidates closest to a node, sorted: the node itself, else its initiators, else by distance.

        Args:
            node: A node's number.
            candidates: Numbers of nodes.
        """
        distances = {candidate: self.distance(node, candidate) for candidate in sorted(set(candidates))}
        initiators = self.nodes[node].initiators if node in self.nodes else ()
        for closest in ((node,), initiators):
            if distances.keys() & set(closest):
                return tuple(sorted(distances.keys() & set(closest)))
        return tuple(candidate for candidate, distance in distances.items() if distance == min(distances.values()))

    def local_cpus(self, node: int) -> frozenset[int]:
        """The CPUs of a node; for a memory-only node, those of the nearest nodes that have some."""
        with_cpus = [candidate.id for candidate in self.nodes.values() if candidate.cpus]
        return frozenset().union(*(self.nodes[number].cpus for number in self.nearest(node, with_cpus)))

    def groups(self, level: Level, cpus: Iterable[int] | None = None) -> tuple[frozenset[int], ...]:
        """The CPUs that share a package, node, last-level cache or core, in the order of their smallest CPU.

        Args:
            level: What the CPUs of a group share.
            cpus: Only these CPUs; all by default. CPUs of which the level is unknown form one group.
        """
        members_of_group: dict[int | None, set[int]] = {}
        for cpu in sorted(self.cpus if cpus is None else cpus):
            members_of_group.setdefault(getattr(self.cpus[cpu], level), set()).add(cpu)
        return tuple(frozenset(group) for group in members_of_group.values())

    def cores(self, cpus: Iterable[int]) -> int:
        """How many physical cores the CPUs lie on."""
        return len({self.cpus[cpu].core for cpu in cpus})

    def nodes_of(self, cpus: Iterable[int]) -> tuple[int, ...]:
        """The NUMA nodes of the CPUs, sorted."""
        return tuple(sorted({node for cpu in cpus if (node := self.cpus[cpu].node) is not None}))


def read_topology(root: str | Path = "/") -> Topology:
    """Read the machine's topology.

    Args:
        root: Folder with the machine's `sys` and `proc`; tests and dumps of other machines have one of their own.

    Returns:
        The online part of the machine.

    Raises:
        TopologyError: There is no list of CPUs below `root`.
    """
    top = Path(root)
    nodes = read_nodes(top, online_cpus(top))
    cpus = read_cpus(top, {cpu: node.id for node in nodes.values() for cpu in node.cpus})
    devices = tuple(read_devices(top, nodes))
    # Files that contradict each other may divide a core between two nodes. `read_cpus` has decided for one of the two,
    # so the nodes get their CPUs from its answer.
    cpus_of_node: dict[int | None, set[int]] = {number: set() for number in nodes}
    for cpu in cpus.values():
        cpus_of_node.setdefault(cpu.node, set()).add(cpu.id)
    placed = {number: replace(node, cpus=frozenset(cpus_of_node[number])) for number, node in nodes.items()}
    return Topology(cpus, placed, devices)
