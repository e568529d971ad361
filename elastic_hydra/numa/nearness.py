"""How far CPUs are from accelerators, and how parts of a machine are given out so that all are as near as possible."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_hydra.numa.assignment import assign
from elastic_hydra.numa.topology import Device, Topology

Near = Sequence["Device | int | None"]
"""Accelerators or node numbers that CPUs should be close to; those without a known node do not count."""
_UNREACHABLE = 255
"""Distance of CPUs whose node is offline. Firmware writes this number for nodes that cannot be reached."""


def remoteness(topology: Topology, cpus: frozenset[int], node: int | None) -> int:
    """The average distance of CPUs from a node, in thousandths of the kernel's unit; 0 for an unknown node.

    Args:
        topology: The machine.
        cpus: CPUs, one or more.
        node: The number of an accelerator's node.
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
    """The nodes of accelerators, one for each accelerator whose node is known."""
    nodes = [wish.node if isinstance(wish, Device) else wish for wish in near]
    return [node for node in nodes if node is not None and node in topology.nodes]


def closest(topology: Topology, parts: Sequence[frozenset[int]], wishes: Sequence[Near]) -> tuple[frozenset[int], ...]:
    """Give each job or worker a part of the machine, so that all together are as near as possible to what they use.

    Args:
        topology: The machine.
        parts: CPUs, one part for each job or worker.
        wishes: For each job or worker, what its part should be near to. Those that wish for nothing get the parts that
            the others leave.

    Returns:
        The parts, in the order of the wishes.
    """
    nodes_of_wishes = [homes(topology, wish) for wish in wishes]
    if not any(nodes_of_wishes):
        return tuple(parts)
    costs = [[sum(remoteness(topology, part, node) for node in nodes) for part in parts] for nodes in nodes_of_wishes]
    return tuple(parts[index] for index in assign(costs))
