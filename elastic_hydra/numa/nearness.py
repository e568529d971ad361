"""How far CPUs are from accelerators, and which of several parts go where so that all are as near as can be."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_hydra.numa.assignment import assign
from elastic_hydra.numa.topology import Device, Topology

Near = Sequence["Device | int | None"]
"""Accelerators or node numbers that CPUs should be close to; what has no known node is left out."""
_UNREACHABLE = 255  # what firmware writes for that; here: CPUs whose node is offline


def remoteness(topology: Topology, cpus: frozenset[int], node: int | None) -> int:
    """The average distance of CPUs from a node, in thousandths of the kernel's unit; 0 for an unknown node.

    Args:
        topology: The machine.
        cpus: Not empty.
        node: That of an accelerator.
    """
    if node not in topology.nodes or node is None:
        return 0
    total = sum(distance(topology, min(group), node) * len(group) for group in topology.groups("node", cpus))
    return round(1000 * total / len(cpus))


def distance(topology: Topology, cpu: int, node: int) -> int:
    """The distance of a CPU's node from a node."""
    home = topology.cpus[cpu].node
    return _UNREACHABLE if home is None else topology.distance(home, node)


def homes(topology: Topology, near: Near) -> list[int]:
    """The known nodes of accelerators, once for each of them."""
    nodes = [one.node if isinstance(one, Device) else one for one in near]
    return [node for node in nodes if node is not None and node in topology.nodes]


def closest(topology: Topology, parts: Sequence[frozenset[int]], wishes: Sequence[Near]) -> tuple[frozenset[int], ...]:
    """The parts in the order in which they are given to wishers: as near to all of them as can be.

    Args:
        topology: The machine.
        parts: As many as wishers.
        wishes: What each wants to be near to; one without wishes takes what the others leave.
    """
    wanted = [homes(topology, wish) for wish in wishes]
    if not any(wanted):
        return tuple(parts)
    order = assign([[sum(remoteness(topology, part, node) for node in nodes) for part in parts] for nodes in wanted])
    return tuple(parts[part] for part in order)
