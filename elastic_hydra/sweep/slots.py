"""The parts of this host that jobs hold while they run side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.config.resolve import Demand
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.slots import cut, instances, take, take_instances, take_listed
from elastic_hydra.numa.topology import Device, Topology

__all__ = ["Slot", "Slots", "next_to_start"]


@dataclass(frozen=True)
class Slot:
    """What one job holds."""

    gpus: tuple[int, ...] = ()
    """Indices into the GPUs that the launcher sees."""
    allowance: Allowance | None = None
    """Its CPUs and their memory nodes; None: whatever the launcher may use."""
    memory: int = 0
    """Bytes."""


class Slots:
    """Hands out disjoint parts of the host.

    Args:
        topology: of the host.
        allowance: what the launcher may use of it.
        devices: the GPUs that the launcher sees, in their order; their places where known.
        gpus: how many GPUs there are.
        memory: bytes.
        jobs_per_gpu: how many jobs may share a GPU.
        parallel: how many jobs may run at once; None: as many as fit.
    """

    def __init__(
        self,
        topology: Topology,
        allowance: Allowance,
        devices: Sequence[Device],
        gpus: int,
        memory: int,
        jobs_per_gpu: int,
        parallel: int | None,
    ) -> None:
        self._topology = topology
        self._allowance = allowance
        self._free = allowance
        self._devices = devices
        self._shares = [jobs_per_gpu] * gpus
        self._memory = memory
        self._parallel = parallel
        self._held = 0
        # More jobs than cores share the CPUs as the kernel sees fit: they are there to wait, not to compute.
        even = parallel is not None and 1 < parallel <= topology.cores(allowance.cpus)
        shares = cut(topology, allowance, parallel) if parallel is not None and even else ()
        # The smallest first: a job that this one has room for, all have.
        self._equal_shares = sorted(shares, key=lambda share: len(share.cpus))

    def take(self, demand: Demand) -> Slot | None:
        """Hold a part of the host.

        Args:
            demand: what the job needs.

        Returns:
            the slot, or None while there is not enough.

        Raises:
            NumaError: this host has no such CPUs, or no node with as many cores as one of the job's instances takes.
        """
        if self._parallel is not None and self._held >= self._parallel:
            return None
        if demand.memory > self._memory or (demand.cpus or 0) > len(self._free.cpus):
            return None
        gpus = self._choose_gpus(demand.gpus)
        if gpus is None:
            return None
        allowance = self._choose_cpus(demand, gpus)
        if allowance is None and (self._equal_shares or demand.cpus is not None or demand.instances or demand.listed):
            return None
        if allowance is not None:
            self._free = self._free.without(allowance)
        for gpu in gpus:
            self._shares[gpu] -= 1
        self._memory -= demand.memory
        self._held += 1
        return Slot(gpus, allowance, demand.memory)

    def give_back(self, slot: Slot) -> None:
        """Take back what a job held."""
        for gpu in slot.gpus:
            self._shares[gpu] += 1
        if slot.allowance is not None:
            self._free = self._free.plus(slot.allowance)
        self._memory += slot.memory
        self._held -= 1

    def _choose_cpus(self, demand: Demand, gpus: Sequence[int]) -> Allowance | None:
        if demand.listed:
            return take_listed(self._topology, self._free, self._allowance, demand.listed)
        if demand.instances:
            there = instances(self._topology, self._allowance, demand.instance_cores)
            return take_instances(self._topology, self._free, there, demand.instances)
        near = [self._devices[gpu] for gpu in gpus if gpu < len(self._devices)]
        if demand.cpus is not None:
            return take(self._topology, self._free, demand.cpus, near)
        shares = [share for share in self._equal_shares if share.cpus <= self._free.cpus]
        nodes = {device.node for device in near}
        closest = [share for share in shares if nodes.intersection(self._topology.nodes_of(share.cpus))]
        return next(iter(closest or shares), None)

    def _choose_gpus(self, count: int) -> tuple[int, ...] | None:
        """Choose GPUs of one NUMA node if one has enough: the fullest such node, so that others stay whole."""
        free = [gpu for gpu, shares in enumerate(self._shares) if shares > 0]
        if len(free) < count:
            return None
        by_node: dict[int | None, list[int]] = {}
        for gpu in free:
            node = self._devices[gpu].node if gpu < len(self._devices) else None
            by_node.setdefault(node, []).append(gpu)
        enough = [gpus for gpus in by_node.values() if len(gpus) >= count]
        by_size = sorted(by_node.values(), key=len, reverse=True)
        candidates = min(enough, key=len) if enough else [gpu for gpus in by_size for gpu in gpus]
        idle_first = sorted(candidates, key=lambda gpu: (-self._shares[gpu], candidates.index(gpu)))
        return tuple(sorted(idle_first[:count]))


def next_to_start(waiting: Sequence[Demand], slots: Slots, overtaken: int) -> tuple[int, Slot] | None:
    """Choose the job to start now.

    The first in the queue goes first. While it does not fit, others may overtake it, but only so many: then nothing
    starts until it fits, so that large jobs are not starved.

    Args:
        waiting: demands of the jobs that have not started, in their order.
        slots: what is free.
        overtaken: how many jobs have overtaken the first one so far.

    Returns:
        the index of the job and the slot that it now holds, or None when none may start.
    """
    for index, demand in enumerate(waiting):
        if index > 0 and overtaken >= OVERTAKING_LIMIT:
            return None
        if index > 0 and demand == waiting[0]:
            continue
        slot = slots.take(demand)
        if slot is not None:
            return index, slot
    return None


OVERTAKING_LIMIT = 8
"""Jobs that may overtake the first of the queue before everyone waits for it."""


def cuda_visible_devices(slot: Slot, environ: Mapping[str, str]) -> str:
    """Name a slot's GPUs for `CUDA_VISIBLE_DEVICES`, as this process names them."""
    names = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return ",".join(names[gpu] if gpu < len(names) else str(gpu) for gpu in slot.gpus)
