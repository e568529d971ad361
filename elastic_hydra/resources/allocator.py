"""A host as a sweep divides it among jobs: what jobs may hold of it, and where their workers would run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from omegaconf import DictConfig

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import NumaConfig, OnError
from elastic_hydra.config.resolve import Launch
from elastic_hydra.config.resources import Demand
from elastic_hydra.elastic.placement import binds
from elastic_hydra.numa import nvml
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.carve import reserve
from elastic_hydra.numa.devices import used_memory
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.machine import Machine
from elastic_hydra.numa.pci import NVIDIA
from elastic_hydra.resources.gpu_memory import GpuMemory
from elastic_hydra.resources.slots import Slot, Slots, cuda_visible_devices

__all__ = ["Allocator"]


class Allocator:
    """Says which parts of a host a sweep's jobs may hold.

    Args:
        settings: the sweep's `hydra.launcher`.
        facts: what was found on the host.
        host: its name.
        machine: the host, as it was read there.
        environ: the environment of agents on the host.

    Raises:
        ConfigError: the sweep cannot run on the host as configured.
    """

    def __init__(
        self, settings: DictConfig, facts: HostFacts, host: str, machine: Machine, environ: Mapping[str, str]
    ) -> None:
        self.host = host
        """The name of the host."""
        self._machine = machine
        self._environ = environ
        self._facts = facts
        self._settings = settings
        self._parallel = None if settings.parallel == "auto" else int(settings.parallel)
        try:
            self._allowance = reserve(self._machine.topology, self._machine.allowance, int(settings.numa.reserve_cores))
        except NumaError as error:
            if settings.numa.on_error != OnError.warn:
                raise ConfigError(str(error)) from error
            self._allowance = self._machine.allowance  # workers start unbound, and their bindings name the problem
        self._idle = self.slots()

    def slots(self) -> Slots:
        """Return the slots of the host, none of which is held."""
        return self._slots(self._parallel)

    def _slots(self, parallel: int | None) -> Slots:
        settings = self._settings
        return Slots(
            self._machine.topology,
            self._allowance,
            self._machine.devices(NumaConfig(), self._environ),
            self._facts.gpus,
            self._facts.memory,
            int(settings.resources.jobs_per_gpu),
            parallel,
            self.host,
        )

    def gpu_memory(self) -> GpuMemory:
        """Return the reader of the GPUs' memory: it tells whether the GPUs of a job that has ended are empty again."""
        devices = self._machine.devices(NumaConfig(), self._environ)
        addresses = [device.address for device in devices]
        library = nvml.load() if any(device.vendor == NVIDIA for device in devices) else None

        def used(gpus: Sequence[int]) -> dict[int, int]:
            # Of a GPU that is divided into parts (MIG), the driver tells only the total, and other jobs may have the
            # other parts. So such GPUs are left out.
            alone = [devices[gpu] for gpu in gpus if gpu < len(devices) and addresses.count(addresses[gpu]) == 1]
            return {addresses.index(address): used for address, used in used_memory(alone, library=library).items()}

        shared = int(self._settings.resources.jobs_per_gpu) > 1
        return GpuMemory(self._facts.gpus, used, 0.0 if shared else float(self._settings.resources.gpu_memory_wait))

    def fitted(self, launch: Launch, env_set: Mapping[str, str]) -> Launch:
        """Fit a job to this host, as if no other job ran.

        Args:
            launch: the job as it is configured.
            env_set: environment variables that the job sets.

        Returns:
            the job. Where its workers cannot be bound as asked, and `numa.on_error=warn` lets them start unbound, it
            asks for less.

        Raises:
            NumaError: the job never fits, or its workers cannot be bound as asked.
        """
        try:
            slot = self._idle_slot(launch, env_set)
        except NumaError:
            demand = launch.demand
            shared = self._parallel or demand.gpus
            free = replace(demand, cpus=None if shared else launch.nproc_per_node, instances=0, listed=(), cores=1)
            if launch.keys.numa.on_error != OnError.warn or free == demand:
                raise
            return self.fitted(replace(launch, demand=free), env_set)
        self.bindings(launch, env_set, slot)
        return launch

    def serves(self, demand: Demand) -> bool:
        """Whether a job that needs this could run here if no other job ran."""
        try:
            slot = self._idle.take(demand)
        except NumaError:
            return False
        if slot is not None:
            self._idle.give_back(slot)
        return slot is not None

    def _idle_slot(self, launch: Launch, env_set: Mapping[str, str]) -> Slot:
        """Return the smallest slot that a job can get on the idle host."""
        numa = launch.keys.numa
        slot = self._idle.take(launch.demand)
        if slot is None:
            raise NumaError(self._never_fits(launch.demand))
        self._idle.give_back(slot)
        strict = binds(numa) and numa.exclusive and numa.on_error == OnError.error
        if strict and slot.allowance is None and self._parallel != 1:
            raise NumaError(self._too_many(launch, env_set))
        return slot

    def _too_many(self, launch: Launch, env_set: Mapping[str, str]) -> str:
        """Say that more jobs would run side by side than there are cores, and what would work."""
        cores = self._machine.topology.cores(self._allowance.cpus)
        jobs = "that many jobs" if self._parallel else "the jobs of all its GPUs (resources.jobs_per_gpu)"
        most = next((parallel for parallel in range(cores, 1, -1) if self._fits(launch, env_set, parallel)), 1)
        return (
            f"hydra.launcher.parallel={self._parallel or 'auto'}: this host has {cores} cores for {jobs}, and "
            f"numa.exclusive=true lets none share one; at most {most}, or numa.exclusive=false"
        )

    def _fits(self, launch: Launch, env_set: Mapping[str, str], parallel: int) -> bool:
        slot = self._slots(parallel).take(launch.demand)
        try:
            return slot is not None and bool(self.bindings(launch, env_set, slot))
        except NumaError:
            return False

    def _never_fits(self, demand: Demand) -> str:
        if demand.instances:
            place = (
                "a whole NUMA node" if demand.instance_cores is None else f"{demand.instance_cores} cores of one node"
            )
            idle = self.slots()
            fewer = range(demand.instances - 1, 0, -1)
            most = next((count for count in fewer if idle.take(replace(demand, instances=count))), 0)
            return (
                f"hydra.launcher.nproc_per_node={demand.instances}: each worker takes {place} (hydra.launcher.numa), "
                f"and this host does not have that many; at most {most}"
            )
        parts = [f"{demand.gpus} GPUs" * bool(demand.gpus), f"{demand.cpus} CPUs" * bool(demand.cpus)]
        needs = " and ".join(part for part in parts if part) or "what it asks for"
        return (
            f"the job needs {needs}, and this host never has that free (hydra.launcher.resources, numa.reserve_cores)"
        )

    def bindings(self, launch: Launch, env_set: Mapping[str, str], slot: Slot) -> tuple[Binding, ...]:
        """Return what a job's workers would be bound to; nothing if the job does not ask for it.

        Args:
            launch: the job.
            env_set: environment variables that the job sets.
            slot: the part of the host that the job holds.

        Raises:
            NumaError: the workers cannot be bound as asked.
        """
        numa = launch.keys.numa
        if not binds(numa):
            return ()
        environ = self.environment(slot) | dict(env_set)
        return self._machine.plan(
            launch.keys.numa, launch.nproc_per_node, environ, slot.allowance, launch.gpus_per_worker
        )

    def environment(self, slot: Slot) -> dict[str, str]:
        """Return the environment variables of an agent whose job holds a slot."""
        chosen: Mapping[str, str] = {}
        if slot.gpus:
            chosen = {"CUDA_VISIBLE_DEVICES": cuda_visible_devices(slot, self._environ)}
        return {**self._environ, **chosen}
