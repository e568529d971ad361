"""Disjoint parts of a machine for jobs that run side by side: cut evenly ahead, or taken and given back one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from elastic_hydra.config.lists import format_list, parse_list
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.assignment import transport
from elastic_hydra.numa.binding import memory_nodes
from elastic_hydra.numa.errors import NumaError, Refusal, setting_error
from elastic_hydra.numa.nearness import Near, closest, homes, remoteness
from elastic_hydra.numa.topology import Topology
from elastic_hydra.numa.tree import CpuSet, branches, distribute, leaves, split, union


def reserve(topology: Topology, allowance: Allowance, cores: int) -> Allowance:
    """Keep the first cores back for the system and the agents; once, however often it is asked.

    Args:
        topology: The machine.
        allowance: What there is.
        cores: `hydra.launcher.numa.reserve_cores`, physical cores.

    Raises:
        NumaError: No core would be left.
    """
    if not cores or allowance.reserved:
        return allowance
    there = leaves(topology, allowance.cpus)
    if cores >= len(there):
        raise Refusal("reserve_cores", cores, f"this host has {len(there)} cores", f"at most {len(there) - 1}")
    return replace(allowance, cpus=union(there[cores:]), reserved=union(there[:cores]))


def cut(
    topology: Topology, allowance: Allowance, parts: int | Sequence[int], near: Sequence[Near] = ()
) -> tuple[Allowance, ...]:
    """Cut an allowance into disjoint slots for jobs that run side by side, node by node before core by core.

    Args:
        topology: The machine.
        allowance: What to cut.
        parts: How many even slots; or the CPUs (hardware threads) of each, rounded up to whole cores.
        near: For each slot, the accelerators of its job.

    Returns:
        One slot per part, in the order asked for.

    Raises:
        NumaError: There are too few cores.
    """
    if isinstance(parts, int):
        return _cut_evenly(topology, allowance, parts, near)
    free, slots = allowance, dict[int, Allowance]()
    # Large slots first: what is left over of their nodes still holds small ones.
    for index in sorted(range(len(parts)), key=lambda index: -parts[index]):
        slots[index] = take(topology, free, parts[index], near[index] if near else ())
        free = free.without(slots[index])
    return tuple(slots[index] for index in range(len(parts)))


def take(topology: Topology, free: Allowance, cpus: int, near: Near = ()) -> Allowance:
    """Carve a slot out of what is free: whole nodes first, then last-level caches, then cores.

    It takes the smallest free part of the machine that is large enough, so that large parts stay whole for large jobs.
    Give a slot back with `free.plus(slot)`.

    Args:
        topology: The machine.
        free: What no other job holds.
        cpus: Hardware threads, 1 or more; rounded up to whole cores.
        near: The job's accelerators (or node numbers): each has an equal part of the slot, as near as what is free
            allows.

    Returns:
        The slot.

    Raises:
        NumaError: Less than that is free.
    """
    if not 1 <= cpus <= len(free.cpus):
        raise NumaError(f"a slot of {cpus} CPUs: {len(free.cpus)} are free")
    taken: CpuSet = frozenset()
    for pool, count in _pools(topology, free.cpus, cpus, homes(topology, near)):
        left = min(count, cpus - len(taken))
        taken |= _carve(topology, pool, left) if left > 0 else frozenset()
    return slot_of(topology, free, taken)


def instances(topology: Topology, allowance: Allowance, cores: int | None = None) -> tuple[Allowance, ...]:
    """The slots for many CPU-only instances of one program side by side; none of them crosses a NUMA node.

    This is what torch.backends.xeon.run_cpu is used for: its throughput mode is one instance per node, its latency mode
    is `cores=4`.

    Args:
        topology: The machine.
        allowance: What to cut.
        cores: Physical cores of each; None: a whole node each.

    Raises:
        NumaError: No node has that many cores.
    """
    nodes = topology.groups("node", allowance.cpus)
    if cores is None:
        return tuple(slot_of(topology, allowance, node) for node in nodes)
    runs = [split(own, len(own) // cores) for own in (leaves(topology, node) for node in nodes) if len(own) >= cores]
    found = [union(run[:cores]) for own in runs for run in own]
    if not found:
        most = max((topology.cores(node) for node in nodes), default=0)
        raise setting_error("cores_per_worker", cores, f"the largest NUMA node has {most} cores for this host's jobs")
    return tuple(slot_of(topology, allowance, own) for own in found)


def take_instances(topology: Topology, free: Allowance, there: Sequence[Allowance], count: int) -> Allowance | None:
    """A slot of several instances: of one node where one has enough free, and of the idlest.

    Args:
        topology: The machine.
        free: What no other job holds.
        there: All instances of the host, see `instances`.
        count: How many, 1 or more.

    Returns:
        The slot; None while fewer are free.
    """
    homes: dict[tuple[int, ...], list[Allowance]] = {}
    for one in there:
        if one.cpus <= free.cpus:
            homes.setdefault(topology.nodes_of(one.cpus), []).append(one)
    idlest = sorted(homes.values(), key=len, reverse=True)
    chosen = [one for home in idlest for one in home][:count]
    if len(chosen) < count:
        return None
    return slot_of(topology, free, union(one.cpus for one in chosen))


def take_listed(topology: Topology, free: Allowance, whole: Allowance, lists: Sequence[str]) -> Allowance | None:
    """A slot of the very CPUs that a user has listed, and the other hardware threads of their cores.

    Args:
        topology: The machine.
        free: What no other job holds.
        whole: What there is for jobs.
        lists: `hydra.launcher.numa.explicit`.

    Returns:
        The slot; None while another job holds some of them.

    Raises:
        NumaError: They are not lists, or name CPUs that no job may use.
    """
    try:
        wanted = union(frozenset(parse_list(text)) for text in lists)
    except ValueError:
        wanted = frozenset()
    if not wanted:
        raise setting_error("explicit", list(lists), "must be lists of CPUs such as '0-3,8'")
    if outside := wanted - whole.cpus:
        problem = f"no job may use CPU {format_list(outside)}; there are {format_list(whole.cpus)}"
        raise setting_error("explicit", list(lists), problem)
    cores = {topology.cpus[cpu].core for cpu in wanted}
    held = frozenset(cpu for cpu in whole.cpus if topology.cpus[cpu].core in cores)
    return slot_of(topology, free, held) if held <= free.cpus else None


def _cut_evenly(topology: Topology, allowance: Allowance, parts: int, near: Sequence[Near]) -> tuple[Allowance, ...]:
    cores = topology.cores(allowance.cpus)
    if not 1 <= parts <= cores:
        raise NumaError(f"{parts} jobs side by side: this host has {cores} cores for them, so at most {cores} jobs")
    found = closest(topology, distribute(topology, allowance.cpus, parts), near or [()] * parts)
    return tuple(slot_of(topology, allowance, part) for part in found)


def _pools(topology: Topology, free: CpuSet, cpus: int, near: Sequence[int]) -> list[tuple[CpuSet, int]]:
    """From which CPUs to take how many, so that each of some nodes has its part as near as can be."""
    if not near:
        return [(free, cpus)]
    nodes = topology.groups("node", free)
    # Of nodes that are equally far: the smallest that is large enough, else the largest.
    order = sorted(nodes, key=lambda node: (len(node) < cpus, len(node) if len(node) >= cpus else -len(node)))
    costs = [[remoteness(topology, node, home) * len(nodes) + order.index(node) for node in nodes] for home in near]
    parts = [len(part) for part in split(range(cpus), len(near))]
    flow = transport(parts, [len(node) for node in nodes], costs, cpus)
    return [(node, sum(shipped)) for node, shipped in zip(nodes, zip(*flow, strict=True), strict=True)]


def _carve(topology: Topology, free: CpuSet, cpus: int) -> CpuSet:
    """At least `cpus` CPUs in whole cores, from as few and as small parts of the tree as possible."""
    whole: list[CpuSet] = []
    while cpus < len(free) and topology.cores(free) > 1:
        below = sorted(branches(topology, free), key=lambda branch: (-len(branch), min(branch)))
        enough = [branch for branch in below if len(branch) >= cpus]
        if enough:
            free = min(enough, key=lambda branch: (len(branch), min(branch)))
            continue
        # No branch is enough: the largest whole, until one is enough for the rest.
        used = 0
        while len(below[used]) < cpus:
            cpus -= len(below[used])
            used += 1
        whole += below[:used]
        free = union(below[used:])
    return union((*whole, free))


def slot_of(topology: Topology, source: Allowance, cpus: Iterable[int]) -> Allowance:
    """Some CPUs of an allowance, with their memory nodes and their share of the container's CPU time."""
    own = frozenset(cpus)
    # Where the kernel has no memory nodes to choose from, the slot keeps what the host has.
    mems = memory_nodes(topology, own, source.mems)[0] or source.mems
    quota = None if source.quota is None else source.quota * len(own) / len(source.cpus)
    return replace(source, cpus=own, mems=frozenset(mems), quota=quota)
