"""How CPUs are laid out over workers: explicit lists, an even spread, or units of the machine."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_hydra.config.lists import format_list, parse_list
from elastic_hydra.config.numa import Cpus, NumaConfig
from elastic_hydra.config.sizes import counted
from elastic_hydra.numa.anchor import Anchor
from elastic_hydra.numa.assignment import assign
from elastic_hydra.numa.binding import Place
from elastic_hydra.numa.errors import NumaError, Refusal, setting_error
from elastic_hydra.numa.nearness import closest, remoteness
from elastic_hydra.numa.topology import Topology
from elastic_hydra.numa.tree import CpuSet, apportion, distribute, leaves, split, union

_PREFIXES = {Cpus.package: "package of ", Cpus.llc: "last-level cache of ", Cpus.core: "cores of "}


def explicit(cpus: CpuSet, settings: NumaConfig, workers: int) -> list[Place]:
    """The lists of CPUs that the user has given, one per local rank.

    Args:
        cpus: The job's CPUs.
        settings: `explicit` and `exclusive` are read.
        workers: Workers on this host.

    Raises:
        NumaError: There are too few or too many lists, a list has a CPU that the job may not use, or, with
            `exclusive`, two lists share a CPU.
    """
    lists = [frozenset(parse_list(text)) for text in settings.explicit]

    def refuse(problem: str) -> NumaError:
        return setting_error("explicit", list(settings.explicit), problem)

    if len(lists) != workers:
        raise refuse(f"{len(lists)} lists for {workers} workers; give one list of CPUs per local rank")
    for rank, cpus_of_rank in enumerate(lists):
        if cpus_of_rank - cpus:
            forbidden = format_list(cpus_of_rank - cpus)
            raise refuse(f"rank {rank} may not use CPU {forbidden}; this job has {format_list(cpus)}")
        twice = cpus_of_rank & union(lists[:rank])
        if settings.exclusive and twice:
            raise refuse(f"CPU {format_list(twice)} is in two lists, and exclusive=true allows one")
    return [Place(cpus_of_rank, "the list given for this rank") for cpus_of_rank in lists]


def spread(topology: Topology, cpus: CpuSet, settings: NumaConfig, wished: Sequence[Anchor]) -> list[Place]:
    """An even cut of all the job's CPUs; each worker gets the part that is closest to its accelerator.

    Args:
        topology: The machine.
        cpus: The job's CPUs.
        settings: `exclusive` and `cores_per_worker` are read.
        wished: The anchor of each worker.

    Raises:
        NumaError: Fewer cores than `exclusive` or `cores_per_worker` ask for.
    """
    size, workers = settings.cores_per_worker, len(wished)
    if settings.exclusive or size:
        _check_room(settings, "this job", topology.cores(cpus), workers)
    parts = distribute(topology, cpus, workers)
    if size:
        cpus_of_ranks = _sized(topology, cpus, size, wished, parts)
        words = "cores spread over the job's nodes"
    else:
        cpus_of_ranks = list(closest(topology, parts, [(anchor.node,) for anchor in wished]))
        words = f"one of {workers} even parts" if workers > 1 else "all CPUs of the job"
    return [
        _place(f"{words}, on {_name(topology, cpus_of_rank)}", cpus_of_rank, anchor)
        for cpus_of_rank, anchor in zip(cpus_of_ranks, wished, strict=True)
    ]


def units(topology: Topology, cpus: CpuSet, settings: NumaConfig, wished: Sequence[Anchor]) -> list[Place]:
    """One package, node, last-level cache or core per worker: of its accelerator's node, else evenly over the machine.

    With `exclusive`, workers that get the same unit share it out by cores.

    Args:
        topology: The machine.
        cpus: The job's CPUs.
        settings: `cpus` says which unit; `exclusive` and `cores_per_worker` are read, too.
        wished: The anchor of each worker.

    Raises:
        NumaError: Fewer cores than `exclusive` or `cores_per_worker` ask for.
    """
    seats = _seats(topology, cpus, settings, wished)
    if settings.exclusive:
        seats = _disjoint(seats)
    cpus_of_rank: dict[int, CpuSet] = {}
    for unit, ranks in seats.items():
        cpus_of_rank.update(zip(ranks, _share_out(topology, unit, settings, len(ranks)), strict=True))
    return [
        _place(_unit_name(topology, settings, cpus_of_rank[rank], seats), cpus_of_rank[rank], anchor)
        for rank, anchor in enumerate(wished)
    ]


def _seats(topology: Topology, cpus: CpuSet, settings: NumaConfig, wished: Sequence[Anchor]) -> dict[CpuSet, list[int]]:
    """The ranks of the workers that each unit gets, by unit."""
    ranks_of_node: dict[int | None, list[int]] = {}
    for rank, anchor in enumerate(wished):
        ranks_of_node.setdefault(anchor.node, []).append(rank)
    seats: dict[CpuSet, list[int]] = {}
    for node, ranks in ranks_of_node.items():
        pool = _pool(topology, cpus, settings, node, len(ranks))
        room = _room(topology, pool, settings)
        pool = [unit for unit, capacity in zip(pool, room, strict=True) if capacity] or pool
        room = list(filter(None, room)) or [1] * len(pool)
        in_turns = node is not None or settings.cpus == Cpus.core
        order = _in_turns(room, len(ranks)) if in_turns else _evenly(room, len(ranks))
        for rank, index in zip(ranks, order, strict=True):
            seats.setdefault(pool[index], []).append(rank)
    return seats


def _disjoint(seats: dict[CpuSet, list[int]]) -> dict[CpuSet, list[int]]:
    """The same seats, where units that overlap have become one.

    Units can overlap: virtual machines have packages that lie across the borders of nodes.
    """
    apart: dict[CpuSet, list[int]] = {}
    for unit, ranks in seats.items():
        touching = [placed for placed in apart if placed & unit]
        ranks_of_all = sorted([*ranks, *(rank for placed in touching for rank in apart.pop(placed))])
        apart[union([unit, *touching])] = ranks_of_all
    return apart


def _room(topology: Topology, pool: Sequence[CpuSet], settings: NumaConfig) -> list[int]:
    """How many workers each unit has room for."""
    return [topology.cores(unit) // (settings.cores_per_worker or 1) for unit in pool]


def _in_turns(room: Sequence[int], workers: int) -> list[int]:
    """The index of the unit that each worker gets: the units in turns if they are equal, else the one with most room.

    What counts is the room per worker, with those workers that a unit already has.
    """
    taken = [0] * len(room)
    order = []
    for _ in range(workers):
        unit = min(range(len(room)), key=lambda index: (-room[index] / (taken[index] + 1), taken[index]))
        taken[unit] += 1
        order.append(unit)
    return order


def _evenly(room: Sequence[int], workers: int) -> list[int]:
    """The index of the unit that each worker gets: far apart if there are fewer workers than units, else by room."""
    if workers < len(room):
        return [turn * len(room) // workers for turn in range(workers)]
    return [index for index, share in enumerate(apportion(room, workers)) for _ in range(share)]


def _pool(topology: Topology, cpus: CpuSet, settings: NumaConfig, node: int | None, workers: int) -> list[CpuSet]:
    """The units that workers may get, best first: of the node they are anchored to, or of all (None)."""
    cpus_near = cpus if node is None else cpus & topology.nodes[node].cpus
    homes = topology.groups("node", cpus_near)
    if settings.cpus == Cpus.core:
        return _core_runs(topology, cpus_near, settings, f"node {node}" if node is not None else "this job", workers)
    if settings.cpus == Cpus.llc:
        pool = [cache for home in homes for cache in topology.groups("llc", home)]
        # torch has the same order: a cache of which the cpuset allows only a part comes last.
        return sorted(pool, key=len, reverse=True) if node is not None else pool
    if settings.cpus == Cpus.node:
        return list(homes)
    packages = topology.groups("package", cpus)
    return list(packages) if node is None else [union(package for package in packages if package & cpus_near)]


def _core_runs(topology: Topology, cpus_near: CpuSet, settings: NumaConfig, where: str, workers: int) -> list[CpuSet]:
    """Runs of `cores_per_worker` neighbouring cores, by default of one core.

    Runs cross the borders of nodes only where there would be too few runs otherwise.
    """
    size = settings.cores_per_worker or 1
    nodes = [leaves(topology, node) for node in topology.groups("node", cpus_near)]
    runs = [run for cores in nodes for run in _runs(cores, size)]
    if len(runs) < workers:
        runs = max(runs, _runs(leaves(topology, cpus_near), size), key=len)
    if not runs or (settings.exclusive and len(runs) < workers):
        _check_room(settings, where, topology.cores(cpus_near), workers)
    return runs


def _runs(cores: Sequence[CpuSet], size: int) -> list[CpuSet]:
    return [union(cores[first : first + size]) for first in range(0, len(cores) - size + 1, size)]


def _share_out(topology: Topology, unit: CpuSet, settings: NumaConfig, workers: int) -> list[CpuSet]:
    """The CPUs of each worker of one unit.

    With `exclusive`, each worker has a run of cores for itself. Else the workers share all cores of the unit, or each
    has `cores_per_worker` of them, which may overlap.
    """
    cores, size = leaves(topology, unit), settings.cores_per_worker
    name = _PREFIXES.get(settings.cpus, "") + _name(topology, unit)
    if settings.exclusive:
        _check_room(settings, name, len(cores), workers)
        return [union(run[:size]) for run in split(cores, workers)]
    if size is None:
        return [unit] * workers
    _check_room(settings, name, len(cores), 1)
    starts = [turn * len(cores) // workers for turn in range(workers)]
    return [union((*cores[start:], *cores[:start])[:size]) for start in starts]


def _sized(
    topology: Topology, cpus: CpuSet, size: int, wished: Sequence[Anchor], parts: Sequence[CpuSet]
) -> list[CpuSet]:
    """Parts of `size` cores, each on or near the worker's node; a part crosses nodes only if too few fit otherwise."""
    nodes = [leaves(topology, node) for node in topology.groups("node", cpus)]
    seats = [index for index, cores in enumerate(nodes) for _ in range(min(len(cores) // size, len(wished)))]
    if len(seats) < len(wished):
        return [union(run[:size]) for run in split(leaves(topology, cpus), len(wished))]
    near = [
        anchor.node if anchor.node is not None else topology.cpus[min(part)].node
        for anchor, part in zip(wished, parts, strict=True)
    ]
    costs = [[remoteness(topology, union(cores), node) for cores in nodes] for node in near]
    homes = [seats[seat] for seat in assign([[row[index] for index in seats] for row in costs])]
    cpus_of_rank: dict[int, CpuSet] = {}
    for index, cores in enumerate(nodes):
        ranks = [rank for rank, home in enumerate(homes) if home == index]
        if ranks:
            cpus_of_rank.update(zip(ranks, (union(run[:size]) for run in split(cores, len(ranks))), strict=True))
    return [cpus_of_rank[rank] for rank in range(len(wished))]


def _check_room(settings: NumaConfig, where: str, cores: int, workers: int) -> None:
    """Refuse if there are too few cores for the workers.

    Raises:
        NumaError: The workers need more cores.
    """
    size = settings.cores_per_worker
    if cores >= workers * (size or 1):
        return
    problem = f"{where} has {counted(cores, 'core')} for {counted(workers, 'worker')}"
    if settings.exclusive and (size is None or cores < workers):
        raise Refusal("exclusive", True, problem)
    raise Refusal("cores_per_worker", size, problem)


def _place(words: str, cpus: CpuSet, anchor: Anchor) -> Place:
    return Place(cpus, "; ".join(filter(None, (words, anchor.why))), anchor.device)


def _unit_name(topology: Topology, settings: NumaConfig, cpus: CpuSet, seats: dict[CpuSet, list[int]]) -> str:
    unit, ranks = next((unit, ranks) for unit, ranks in seats.items() if cpus <= unit)
    whole = _PREFIXES.get(settings.cpus, "") + _name(topology, unit)
    if len(ranks) > 1:
        return f"{whole}, {'shared out among' if settings.exclusive else 'shared by'} {len(ranks)} workers"
    return whole


def _name(topology: Topology, cpus: CpuSet) -> str:
    nodes = topology.nodes_of(cpus)
    return f"node {format_list(nodes)}" if nodes else "the CPUs without a node"
