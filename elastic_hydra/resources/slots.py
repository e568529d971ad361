"""The parts of a host that jobs hold while they run side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.carve import cut, instances, take, take_instances, take_listed
from elastic_hydra.numa.topology import Device, Topology
from elastic_hydra.resources.gpus import Gpus

__all__ = ["Slot", "Slots", "cuda_visible_devices"]


@dataclass(frozen=True)
class Slot:
    """The part of a host that one job holds."""

    gpus: tuple[int, ...] = ()
    """Indices into the GPUs that the launcher sees."""
    allowance: Allowance | None = None
    """CPUs and their memory nodes; None: all that the launcher may use."""
    memory: int = 0
    """Bytes."""
    host: str = ""
    """Name of the host."""


class Slots:
    """Hands out disjoint parts of the host.

    Args:
        topology: the host.
        allowance: the CPUs and memory nodes that the launcher may use.
        devices: the GPUs that the launcher sees, by index, as far as their places are known.
        gpus: the number of GPUs that the launcher sees.
        memory: bytes of memory that jobs may have together.
        jobs_per_gpu: how many jobs may share a GPU.
        parallel: how many jobs may run at once; None: as many as fit.
        host: the host's name.
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
        host: str = "",
    ) -> None:
        self._host = host
        self._topology = topology
        self._allowance = allowance
        self._free = allowance
        self._gpus = Gpus(
            topology, [devices[gpu].node if gpu < len(devices) else None for gpu in range(gpus)], jobs_per_gpu
        )
        self._memory = memory
        self._parallel = parallel
        self._held = 0
        # With more jobs than cores, no CPUs are given out, and the kernel schedules the jobs on all of them: whoever
        # starts so many jobs has jobs that mostly wait.
        cores = topology.cores(allowance.cpus)
        shares = cut(topology, allowance, parallel) if parallel is not None and 1 < parallel <= cores else ()
        # The smallest share comes first: a job that fits into it fits into all of them.
        self._equal_shares = sorted(shares, key=lambda share: len(share.cpus))
        if parallel is None and 0 < gpus * jobs_per_gpu <= cores:
            self._gpus.deal(cut(topology, allowance, gpus * jobs_per_gpu))

    @property
    def room(self) -> tuple[int, int, int]:
        """What is free, to compare hosts by: GPUs, then jobs that may run at once, then CPUs."""
        jobs = 0 if self._parallel is None else self._parallel - self._held
        return self._gpus.free, jobs, len(self._free.cpus)

    def take(self, demand: Demand) -> Slot | None:
        """Take a part of the host for a job.

        Args:
            demand: what the job needs.

        Returns:
            the slot; None while too little is free.

        Raises:
            NumaError: this host has no such CPUs, or no node with as many cores as one of the job's instances takes.
        """
        if self._parallel is not None and self._held >= self._parallel:
            return None
        if demand.memory > self._memory or (demand.cpus or 0) > len(self._free.cpus):
            return None
        chosen = self._choose(demand)
        if chosen is None:
            return None
        gpus, allowance = chosen
        if allowance is not None:
            self._free = self._free.without(allowance)
        self._gpus.take(gpus)
        self._memory -= demand.memory
        self._held += 1
        return Slot(gpus, allowance, demand.memory, self._host)

    def give_back(self, slot: Slot) -> None:
        """Take back what a job held."""
        self._gpus.give_back(slot.gpus)
        if slot.allowance is not None:
            self._free = self._free.plus(slot.allowance)
        self._memory += slot.memory
        self._held -= 1

    def _choose(self, demand: Demand) -> tuple[tuple[int, ...], Allowance | None] | None:
        """Choose GPUs and CPUs that are near each other; None while too little is free."""
        if demand.gpus > self._gpus.free:
            return None
        fixed = demand.listed or demand.instances or demand.cpus is not None
        if demand.gpus and not fixed and self._gpus.dealt:
            return self._gpus.choose_with_cpus(demand.gpus, demand.cores, self._free)
        if not fixed and not self._equal_shares:
            return self._gpus.choose_together(demand.gpus), None
        places = self._places(demand)
        if not places:
            return None
        place, gpus = self._gpus.choose_near(demand.gpus, [allowance.cpus for allowance in places], apart=not fixed)
        if demand.cpus is None or len(gpus) < 2:
            return gpus, places[place]
        return gpus, take(self._topology, self._free, demand.cpus, self._gpus.nodes_of(gpus))

    def _places(self, demand: Demand) -> list[Allowance]:
        """Return the CPUs that a job could have, one place or more; none while too few are free."""
        if demand.listed:
            listed = take_listed(self._topology, self._free, self._allowance, demand.listed)
            return [] if listed is None else [listed]
        if demand.instances:
            host_instances = instances(self._topology, self._allowance, demand.instance_cores)
            joined = take_instances(self._topology, self._free, host_instances, demand.instances)
            return [] if joined is None else [joined]
        if demand.cpus is None:
            return [share for share in self._equal_shares if share.cpus <= self._free.cpus]
        near = self._gpus.nodes_of(self._gpus.idle()) if demand.gpus else []
        return [take(self._topology, self._free, demand.cpus, [node]) for node in dict.fromkeys(near or [None])]


def cuda_visible_devices(slot: Slot, environ: Mapping[str, str]) -> str:
    """Return a slot's GPUs as a value of `CUDA_VISIBLE_DEVICES`.

    Args:
        slot: the slot.
        environ: the environment of this process. If its `CUDA_VISIBLE_DEVICES` names GPUs, these names are used.
    """
    names = [name.strip() for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return ",".join(names[gpu] if gpu < len(names) else str(gpu) for gpu in slot.gpus)
