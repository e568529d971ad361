"""What hwloc-distrib would answer: its rule (`hwloc_distrib` in hwloc/helper.h) on a tree of nested objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from elastic_hydra.numa.topology import Level, Topology

LEVELS: tuple[Level, ...] = ("package", "node", "llc", "core")


@dataclass
class Item:
    """An object of the tree: some CPUs, and the objects inside."""

    cpus: frozenset[int]
    inner: list[Item] = field(default_factory=list)


def distrib(topology: Topology, cpus: frozenset[int], parts: int) -> list[frozenset[int]]:
    """The parts of `hwloc-distrib --restrict CPUS PARTS`."""
    return _distrib([_tree(topology, cpus)], parts)


def nests(topology: Topology, cpus: frozenset[int]) -> bool:
    """Whether no object lies across the border of another: else hwloc leaves one of the two out."""
    groups = [group for level in LEVELS for group in topology.groups(level, cpus)]
    return all(a <= b or b <= a or not a & b for a in groups for b in groups)


def _distrib(roots: Sequence[Item], parts: int) -> list[frozenset[int]]:
    total, given, found = sum(len(root.cpus) for root in roots), 0, list[frozenset[int]]()
    for root in roots:
        before, given = given, given + len(root.cpus)
        chunk = -(-given * parts // total) - -(-before * parts // total)
        if chunk > 1 and root.inner:
            found += _distrib(root.inner, chunk)
        elif chunk:
            found += [root.cpus] * chunk
        else:
            found[-1] |= root.cpus
    return found


def _tree(topology: Topology, cpus: frozenset[int]) -> Item:
    """Larger objects hold smaller ones; an object that lies across the border of a larger one is left out."""
    told = [
        group
        for level in LEVELS
        for group in topology.groups(level, cpus)
        if getattr(topology.cpus[min(group)], level) is not None
    ]
    items = sorted({*told, *(frozenset((cpu,)) for cpu in cpus)} - {cpus}, key=lambda group: (-len(group), min(group)))
    machine = Item(cpus)
    for group in items:
        place = machine
        while holder := next((item for item in place.inner if group < item.cpus), None):
            place = holder
        if not any(group & item.cpus for item in place.inner):
            place.inner.append(Item(group))
    _sort(machine)
    return machine


def _sort(item: Item) -> None:
    item.inner.sort(key=lambda inner: min(inner.cpus))
    for inner in item.inner:
        _sort(inner)
