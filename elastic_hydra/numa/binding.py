"""What one worker is bound to: the nouns of a plan, and the memory and threads that follow from CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Memory, NumaConfig, OnError
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.topology import Device, Topology


@dataclass(frozen=True)
class Binding:
    """What one worker is bound to, and why."""

    cpus: tuple[int, ...] = ()
    """CPUs, sorted; empty: the worker is not bound to CPUs."""
    memory: str = "none"
    """Memory policy: none, local, preferred, bind or interleave."""
    nodes: tuple[int, ...] = ()
    """Memory nodes of the policy; for `local`, where pages touched earlier are moved to."""
    threads: int | None = None
    """Threads that the worker should compute with; None: leave as is."""
    cores: int = 0
    """Physical cores of the CPUs; 0 when not bound."""
    device: str | None = None
    """PCI address of the worker's accelerator."""
    why: str = ""
    """How this came to be, in words."""
    problem: str = ""
    """Why the worker is not bound although it should be (with `on_error=warn`); empty when all is as asked."""
    required: tuple[str, ...] = ()
    """Which of "cpus" and "memory" must be had; the worker fails without."""
    migrate: bool = False
    """Whether the worker moves pages that it touched before it was bound."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Place:
    """The CPUs of one worker, and the reason."""

    cpus: frozenset[int]
    why: str
    device: Device | None = None


def bindings(
    topology: Topology, usable: Allowance, settings: NumaConfig, places: Sequence[Place]
) -> tuple[Binding, ...]:
    """Complete the workers' places with memory, threads and what is required.

    Args:
        topology: The machine.
        usable: The CPUs the workers were placed on, and the memory nodes they may use.
        settings: `memory`, `threads`, `migrate`, `on_error` and `on_memory_error` are read.
        places: One per local rank; without CPUs for a worker that is not bound.
    """
    threads = _threads(topology, usable, settings, places)
    found = []
    for place, count in zip(places, threads, strict=True):
        nodes, note = memory_nodes(topology, place.cpus or usable.cpus, usable.mems)
        memory = settings.memory if nodes else Memory.none
        wanted = (
            ("cpus", bool(place.cpus) and settings.on_error == OnError.error),
            ("memory", memory != Memory.none and settings.on_memory_error == OnError.error),
        )
        found.append(
            Binding(
                cpus=tuple(sorted(place.cpus)),
                memory=Memory(memory).value,
                nodes=nodes if memory != Memory.none else (),
                threads=count,
                cores=topology.cores(place.cpus),
                device=place.device.address if place.device else None,
                why="; ".join(filter(None, (place.why, note if settings.memory != Memory.none else ""))),
                required=tuple(kind for kind, is_required in wanted if is_required),
                migrate=settings.migrate and memory in (Memory.local, Memory.preferred, Memory.bind),
            )
        )
    return tuple(found)


def memory_nodes(topology: Topology, cpus: frozenset[int], mems: frozenset[int]) -> tuple[tuple[int, ...], str]:
    """The kernel's memory nodes for CPUs: those of their NUMA nodes, else the nearest with memory; and a note.

    Args:
        topology: The machine.
        cpus: The worker's CPUs.
        mems: What the process may use.

    Returns:
        The nodes, empty where the kernel has no NUMA memory; and why they are not the CPUs' own, where so.
    """
    usable = {
        node.id: tuple(mem for mem in node.mems if mem in mems) for node in topology.nodes.values() if node.memory != 0
    }
    usable = {node: own for node, own in usable.items() if own}
    if not usable:
        return (), "this kernel has no memory nodes to choose from"
    homes = topology.nodes_of(cpus)
    own = [node for node in homes if node in usable]
    note = ""
    if not own:
        nearest = {other for home in homes for other in topology.nearest(home, usable)}
        own = sorted(nearest or usable)
        missing = f"node {format_list(homes)} has no memory for this job" if homes else "the CPUs belong to no node"
        note = f"{missing}: node {format_list(own)} is nearest"
    return tuple(sorted(mem for node in own for mem in usable[node])), note


def _threads(
    topology: Topology, usable: Allowance, settings: NumaConfig, places: Sequence[Place]
) -> tuple[int | None, ...]:
    """Threads per worker: with `auto` its physical cores, each shared out among the workers that are on it."""
    if settings.threads is None:
        return (None,) * len(places)
    if settings.threads != "auto":
        return (int(settings.threads),) * len(places)
    cores = [{topology.cpus[cpu].core for cpu in place.cpus or usable.cpus} for place in places]
    sharers: dict[int, int] = {}
    for core in (core for own in cores for core in own):
        sharers[core] = sharers.get(core, 0) + 1
    most = float("inf") if usable.quota is None else usable.quota / len(places)
    # The sum of a worker's shares: 0.001 keeps 3 * 1/3 from being rounded down.
    return tuple(max(1, int(min(most, sum(1 / sharers[core] for core in own)) + 0.001)) for own in cores)
