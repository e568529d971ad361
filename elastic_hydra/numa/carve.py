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
    """Keep the first cores back for the system and the agents; an allowance that has reserved CPUs stays as it is.

    Args:
        topology: The machine.
        allowance: The CPUs to reserve from.
        cores: `hydra.launcher.numa.reserve_cores`, physical cores.

    Returns:
        The allowance without the reserved CPUs, which its `reserved` names.

    Raises:
        NumaError: No core would be left.
    """
    if not cores or allowance.reserved:
        return allowance
    all_cores = leaves(topology, allowance.cpus)
    if cores >= len(all_cores):
        raise Refusal("reserve_cores", cores, f"this host has {len(all_cores)} cores", f"at most {len(all_cores) - 1}")
    return replace(allowance, cpus=union(all_cores[cores:]), reserved=union(all_cores[:cores]))


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
    # Large slots come first: small ones still fit into what the large ones leave of their nodes.
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
        near: The job's accelerators, or numbers of nodes. An equal part of the slot is carved for each of them, as near
            to it as the free CPUs allow.

    Returns:
        The slot.

    Raises:
        NumaError: Fewer CPUs are free.
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
        cores: Physical cores of each instance; None: each instance has a whole node.

    Returns:
        The slots, node by node.

    Raises:
        NumaError: No node has that many cores.
    """
    nodes = topology.groups("node", allowance.cpus)
    if cores is None:
        return tuple(slot_of(topology, allowance, node) for node in nodes)
    parts: list[CpuSet] = []
    for node_cores in (leaves(topology, node) for node in nodes):
        if len(node_cores) >= cores:
            parts += [union(run[:cores]) for run in split(node_cores, len(node_cores) // cores)]
    if not parts:
        most = max((topology.cores(node) for node in nodes), default=0)
        raise setting_error("cores_per_worker", cores, f"the largest NUMA node has {most} cores for this host's jobs")
    return tuple(slot_of(topology, allowance, part) for part in parts)


def take_instances(
    topology: Topology, free: Allowance, host_instances: Sequence[Allowance], count: int
) -> Allowance | None:
    """A slot of several instances: of one node where one has enough free, else of as few nodes as possible.

    The nodes with the most free instances come first.

    Args:
        topology: The machine.
        free: What no other job holds.
        host_instances: All instances of the host, as `instances` returns them.
        count: How many instances the slot has, 1 or more.

    Returns:
        The slot; None while fewer instances are free.
    """
    homes: dict[tuple[int, ...], list[Allowance]] = {}
    for instance in host_instances:
        if instance.cpus <= free.cpus:
            homes.setdefault(topology.nodes_of(instance.cpus), []).append(instance)
    idlest = sorted(homes.values(), key=len, reverse=True)
    chosen = [instance for home in idlest for instance in home][:count]
    if len(chosen) < count:
        return None
    return slot_of(topology, free, union(instance.cpus for instance in chosen))


def take_listed(topology: Topology, free: Allowance, whole: Allowance, lists: Sequence[str]) -> Allowance | None:
    """A slot of the very CPUs that a user has listed, and the other hardware threads of their cores.

    Args:
        topology: The machine.
        free: What no other job holds.
        whole: What all jobs together may use.
        lists: `hydra.launcher.numa.explicit`.

    Returns:
        The slot; None while another job holds some of its CPUs.

    Raises:
        NumaError: A text is not a list of CPUs, or names CPUs that no job may use.
    """
    try:
        listed = union(frozenset(parse_list(text)) for text in lists)
    except ValueError:
        listed = frozenset()
    if not listed:
        raise setting_error("explicit", list(lists), "must be lists of CPUs such as '0-3,8'")
    if outside := listed - whole.cpus:
        problem = f"no job may use CPU {format_list(outside)}; there are {format_list(whole.cpus)}"
        raise setting_error("explicit", list(lists), problem)
    cores = {topology.cpus[cpu].core for cpu in listed}
    held = frozenset(cpu for cpu in whole.cpus if topology.cpus[cpu].core in cores)
    return slot_of(topology, free, held) if held <= free.cpus else None


def _cut_evenly(topology: Topology, allowance: Allowance, parts: int, near: Sequence[Near]) -> tuple[Allowance, ...]:
    cores = topology.cores(allowance.cpus)
    if not 1 <= parts <= cores:
        raise NumaError(f"{parts} jobs side by side: this host has {cores} cores for them, so at most {cores} jobs")
    cut_cpus = closest(topology, distribute(topology, allowance.cpus, parts), near or [()] * parts)
    return tuple(slot_of(topology, allowance, cpus) for cpus in cut_cpus)


def _pools(topology: Topology, free: CpuSet, cpus: int, near: Sequence[int]) -> list[tuple[CpuSet, int]]:
    """From which CPUs to take how many, so that an equal part lies as near as possible to each of the `near` nodes."""
    if not near:
        return [(free, cpus)]
    nodes = topology.groups("node", free)
    # Among nodes that are equally far, the smallest that is large enough comes first, else the largest.
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
        # No branch is enough by itself: take the largest ones whole, until one branch is enough for the rest.
        used = 0
        while len(below[used]) < cpus:
            cpus -= len(below[used])
            used += 1
        whole += below[:used]
        free = union(below[used:])
    return union((*whole, free))


def slot_of(topology: Topology, source: Allowance, cpus: Iterable[int]) -> Allowance:
    """Some CPUs of an allowance, with their memory nodes and their share of the container's CPU time.

    Args:
        topology: The machine.
        source: The allowance.
        cpus: CPUs of that allowance, by the kernel's numbers.
    """
    slot_cpus = frozenset(cpus)
    # Where the kernel has no memory nodes to choose from, the slot keeps the memory nodes of the allowance.
    mems = memory_nodes(topology, slot_cpus, source.mems)[0] or source.mems
    quota = None if source.quota is None else source.quota * len(slot_cpus) / len(source.cpus)
    return replace(source, cpus=slot_cpus, mems=frozenset(mems), quota=quota)
