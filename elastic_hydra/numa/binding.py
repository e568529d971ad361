"""What one worker is bound to: the nouns of a plan, and the memory and threads that follow from CPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Memory, NumaConfig, OnError
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.topology import Device, Topology


@dataclass(frozen=True)
class Binding:
    """What one worker is bound to, and why."""

    cpus: tuple[int, ...] = ()
    """The kernel's numbers of the CPUs, sorted; empty: the worker is not bound to CPUs."""
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
    """Which of "cpus" and "memory" the worker cannot do without: it fails when the kernel refuses them."""
    migrate: bool = False
    """Whether the worker moves pages that it touched before it was bound."""

    def to_dict(self) -> dict[str, Any]:
        """Return the binding as plain values that JSON takes."""
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
        usable: The CPUs that the workers were placed on, and the memory nodes that they may use.
        settings: `memory`, `threads`, `migrate`, `on_error` and `on_memory_error` are read.
        places: One per local rank; a worker that is not bound has a place without CPUs.

    Returns:
        One binding per local rank.
    """
    threads = _threads(topology, usable, settings, places)
    planned = []
    for place, count in zip(places, threads, strict=True):
        nodes, note = memory_nodes(topology, place.cpus or usable.cpus, usable.mems)
        memory = settings.memory if nodes else Memory.none
        requirements = (
            ("cpus", bool(place.cpus) and settings.on_error == OnError.error),
            ("memory", memory != Memory.none and settings.on_memory_error == OnError.error),
        )
        planned.append(
            Binding(
                cpus=tuple(sorted(place.cpus)),
                memory=Memory(memory).value,
                nodes=nodes if memory != Memory.none else (),
                threads=count,
                cores=topology.cores(place.cpus),
                device=place.device.address if place.device else None,
                why="; ".join(filter(None, (place.why, note if settings.memory != Memory.none else ""))),
                required=tuple(kind for kind, is_required in requirements if is_required),
                migrate=settings.migrate and memory in (Memory.local, Memory.preferred, Memory.bind),
            )
        )
    return tuple(planned)


def memory_nodes(topology: Topology, cpus: frozenset[int], mems: frozenset[int]) -> tuple[tuple[int, ...], str]:
    """The kernel's memory nodes for CPUs: those of their NUMA nodes, else the nearest with memory; and a note.

    Args:
        topology: The machine.
        cpus: The worker's CPUs.
        mems: The memory nodes that the process may use, by the kernel's numbers.

    Returns:
        The nodes, empty where the kernel has no NUMA memory. The note says why they are not the nodes of the CPUs; it
        is empty when they are.
    """
    usable = {
        node.id: tuple(mem for mem in node.mems if mem in mems) for node in topology.nodes.values() if node.memory != 0
    }
    usable = {node: node_mems for node, node_mems in usable.items() if node_mems}
    if not usable:
        return (), "this kernel has no memory nodes to choose from"
    homes = topology.nodes_of(cpus)
    chosen = [node for node in homes if node in usable]
    note = ""
    if not chosen:
        nearest = {node for home in homes for node in topology.nearest(home, usable)}
        chosen = sorted(nearest or usable)
        missing = f"node {format_list(homes)} has no memory for this job" if homes else "the CPUs belong to no node"
        note = f"{missing}: node {format_list(chosen)} is nearest"
    return tuple(sorted(mem for node in chosen for mem in usable[node])), note


def _threads(
    topology: Topology, usable: Allowance, settings: NumaConfig, places: Sequence[Place]
) -> tuple[int | None, ...]:
    """Threads per worker: with `auto` its physical cores, each shared out among the workers that are on it."""
    if settings.threads is None:
        return (None,) * len(places)
    if settings.threads != "auto":
        return (int(settings.threads),) * len(places)
    cores_of_workers = [{topology.cpus[cpu].core for cpu in place.cpus or usable.cpus} for place in places]
    sharers = Counter(chain.from_iterable(cores_of_workers))
    most = float("inf") if usable.quota is None else usable.quota / len(places)
    shares = (sum(1 / sharers[core] for core in cores) for cores in cores_of_workers)
    # 0.001 keeps a sum such as 3 * 1/3 from being rounded down.
    return tuple(max(1, int(min(most, share) + 0.001)) for share in shares)
