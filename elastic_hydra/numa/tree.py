"""The machine as a tree of CPU sets, and how to share it evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from elastic_hydra.numa.topology import Level, Topology

CpuSet = frozenset[int]
Item = TypeVar("Item")

_LEVELS: tuple[Level, ...] = ("package", "node", "llc", "core")


def branches(topology: Topology, cpus: CpuSet) -> tuple[CpuSet, ...]:
    """The parts of the next level below a set of CPUs, in the order of their smallest CPU.

    The next level is the one that cuts the set into the fewest parts. So packages may hold nodes on one machine, and
    nodes may hold packages on another; a cache that spans two nodes is above them. Cores that share an inner cache are
    next to each other. The branches of a core are its hardware threads; a single CPU has no branches.

    Args:
        topology: The machine.
        cpus: The set of CPUs, by the kernel's numbers.
    """
    cuts = [topology.groups(level, cpus) for level in _LEVELS]
    real = [cut for cut in cuts if len(cut) > 1]
    if not real:
        return tuple(frozenset((cpu,)) for cpu in sorted(cpus)) if len(cpus) > 1 else ()
    fewest = min(real, key=lambda cut: len(cut))
    if fewest is cuts[-1]:
        return tuple(sorted(fewest, key=lambda core: topology.cpus[min(core)].caches[1:]))
    return fewest


def leaves(topology: Topology, cpus: CpuSet) -> tuple[CpuSet, ...]:
    """The cores of a set of CPUs in the order of the tree, so that neighbours share as much as possible.

    Args:
        topology: The machine.
        cpus: The set of CPUs, by the kernel's numbers.
    """
    if topology.cores(cpus) <= 1:
        return (cpus,) if cpus else ()
    return tuple(core for branch in branches(topology, cpus) for core in leaves(topology, branch))


def distribute(topology: Topology, cpus: CpuSet, parts: int) -> tuple[CpuSet, ...]:
    """Cut a set of CPUs into disjoint parts that are even in cores and keep to the borders of the machine.

    Where the machine divides evenly, the parts are those of `hwloc-distrib`. Elsewhere they are never less even: 3
    parts of 8 equal nodes are 2, 3 and 3 nodes, where hwloc-distrib answers 2, 2 and 4. Sometimes parts that keep to
    the borders would be less even than those of hwloc-distrib (2 parts of a node with 24 cores and one with 1): then
    the cores are cut evenly across the borders. With more parts than cores, cores are cut into hardware threads; with
    more parts than threads, parts repeat.

    Args:
        topology: The machine.
        cpus: The CPUs to cut, one or more.
        parts: The number of parts, 1 or more.

    Returns:
        The parts, in the order of the machine; together they are `cpus`.
    """
    below = branches(topology, cpus)
    if parts == 1 or not below:
        return (cpus,) * parts
    within = _within_borders(topology, cpus, below, parts)
    if parts >= topology.cores(cpus):
        return within
    hwloc_parts = by_weight(topology, below, parts)
    even = tuple(union(run) for run in split(leaves(topology, cpus), parts))
    whole_cores = sum(map(topology.cores, hwloc_parts)) == topology.cores(cpus)
    candidates = (within, even, tuple(hwloc_parts)) if whole_cores else (within, even)
    return min(candidates, key=lambda parts: _excess(topology, parts, hwloc_parts))


def by_weight(topology: Topology, below: Sequence[CpuSet], parts: int) -> list[CpuSet]:
    """The parts that `hwloc-distrib` makes of some branches, in proportion to their hardware threads, rounded up.

    Since the shares are rounded up, nothing may be left for a branch: it then joins the part before it.

    Args:
        topology: The machine.
        below: The branches.
        parts: The number of parts, 1 or more.
    """
    total = sum(map(len, below))
    hwloc_parts: list[CpuSet] = []
    weight = 0
    for branch in below:
        share = -(-(weight + len(branch)) * parts // total) - -(-weight * parts // total)
        weight += len(branch)
        inner = branches(topology, branch) if share > 1 else ()
        if not share:
            hwloc_parts[-1] |= branch
        else:
            hwloc_parts += by_weight(topology, inner, share) if inner else [branch] * share
    return hwloc_parts


def _within_borders(topology: Topology, cpus: CpuSet, below: Sequence[CpuSet], parts: int) -> tuple[CpuSet, ...]:
    by_cores = parts <= topology.cores(cpus)
    weights = [topology.cores(branch) if by_cores else len(branch) for branch in below]
    if parts >= len(below):
        shares = apportion(weights, parts)
        return tuple(part for branch, n in zip(below, shares, strict=True) for part in distribute(topology, branch, n))
    return tuple(union(below[first:last]) for first, last in _join(weights, parts))


def _excess(topology: Topology, parts: Sequence[CpuSet], reference: Sequence[CpuSet]) -> tuple[int, int]:
    """How much less even some parts are than a reference: in cores, and in hardware threads."""

    def beyond(size: Callable[[CpuSet], int]) -> int:
        sizes, reference_sizes = ([size(part) for part in cut] for cut in (parts, reference))
        return max(0, max(sizes) - min(sizes) - max(reference_sizes) + min(reference_sizes))

    return beyond(topology.cores), beyond(len)


def apportion(weights: Sequence[int], parts: int) -> tuple[int, ...]:
    """How many parts each branch gets: in proportion to its weight, at least one each.

    Args:
        weights: One per branch, 1 or more.
        parts: The number of parts, at least as many as branches.

    Returns:
        One number per branch: the answer of hwloc-distrib (running sums, rounded up), or a more even one by size.
    """
    total = sum(weights)
    marks = [-(-sum(weights[:end]) * parts // total) for end in range(len(weights) + 1)]
    running = [last - first for first, last in pairwise(marks)]
    by_size = [1] * len(weights)
    for _ in range(parts - len(weights)):  # the branch with the largest parts gets another one
        by_size[max(range(len(weights)), key=lambda index: weights[index] / by_size[index])] += 1
    return tuple(min((running, by_size), key=lambda shares: _unevenness(weights, shares)))


def split(items: Sequence[Item], parts: int) -> tuple[tuple[Item, ...], ...]:
    """Cut a sequence into runs whose lengths differ by one at most, the longer ones first (torch's `exclusive`)."""
    size, longer = divmod(len(items), parts)
    starts = [part * size + min(part, longer) for part in range(parts + 1)]
    return tuple(tuple(items[first:last]) for first, last in pairwise(starts))


def _unevenness(weights: Sequence[int], shares: Iterable[int]) -> float:
    pairs = list(zip(weights, shares, strict=True))
    if any(share == 0 for _, share in pairs):
        return float("inf")
    return max(-(-weight // share) for weight, share in pairs) - min(weight // share for weight, share in pairs)


def _join(weights: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Group neighbouring branches into fewer parts: (first branch, last branch + 1) of each part.

    There are two rules for the border before a part. In hwloc-distrib, it lies just before the running sum of weights
    passes the even share. In the other rule, it lies where the running sum is closest to the even share. The rule that
    gives the more even parts is followed.
    """
    sums = [sum(weights[:end]) for end in range(len(weights) + 1)]

    def cut(surplus: Callable[[float], float]) -> list[tuple[int, int]]:
        borders = [0]
        for part in range(1, parts):
            even = part * sums[-1] / parts
            # Every part, before the border and behind it, needs one branch at least.
            options = range(borders[-1] + 1, len(weights) - (parts - part) + 1)
            borders.append(min(options, key=lambda end: surplus(sums[end] - even)))
        return list(pairwise([*borders, len(weights)]))

    def spread(groups: list[tuple[int, int]]) -> int:
        sizes = [sums[last] - sums[first] for first, last in groups]
        return max(sizes) - min(sizes)

    return min((cut(_not_passed), cut(abs)), key=spread)


def _not_passed(surplus: float) -> float:
    return -surplus if surplus <= 0 else float("inf")


def union(sets: Iterable[CpuSet]) -> CpuSet:
    """All CPUs of the sets."""
    return frozenset().union(*sets)
