"""This host as the launcher sees it: its topology, allowance and accelerators, also where the system hides them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError
from elastic_hydra.numa import nvml
from elastic_hydra.numa.allowance import Allowance, affinity, read_allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.devices import Accelerators, read_accelerators
from elastic_hydra.numa.errors import NumaError, TopologyError, setting_error
from elastic_hydra.numa.plan import plan, unbound
from elastic_hydra.numa.topology import Device, Topology, read_topology


@dataclass(frozen=True)
class Machine:
    """All that is known of a host, to plan bindings with."""

    topology: Topology
    allowance: Allowance
    accelerators: Accelerators
    unreadable: str = ""
    """Why the topology could not be read, and is only assumed; empty where it was read."""

    def devices(self, settings: NumaConfig, environ: Mapping[str, str]) -> tuple[Device, ...]:
        """The accelerators of local rank 0, 1, …: those that the settings name, else those that the workers see.

        Args:
            settings: `devices` is read.
            environ: The workers' environment; CUDA_VISIBLE_DEVICES and its like are read.

        Raises:
            NumaError: The settings name an accelerator that this machine does not have.
        """
        if settings.devices:
            return self.accelerators.named(settings.devices)
        return self.accelerators.visible(environ)

    def plan(
        self,
        settings: NumaConfig,
        workers: int,
        environ: Mapping[str, str],
        slot: Allowance | None = None,
        gpus_per_worker: int = 1,
    ) -> tuple[Binding, ...]:
        """Decide what each worker of a job is bound to, as `plan.plan` does.

        Args:
            settings: `hydra.launcher.numa`.
            workers: Workers on this host.
            environ: Their environment; CUDA_VISIBLE_DEVICES and its like are read.
            slot: The part of the machine that the job holds; None: all that this process may use.
            gpus_per_worker: Accelerators that belong to each worker. The worker is placed at the first of them.

        Returns:
            One binding per local rank. With `on_error=warn`, bindings that could not be planned name the problem
            instead of CPUs.

        Raises:
            NumaError: The workers cannot be bound as asked, or the system does not tell its topology.
        """
        usable = self.allowance if slot is None else slot.within(self.allowance)
        devices: Sequence[Device] = ()
        try:
            self._check_readable(settings)
            devices = self.devices(settings, environ)
            if not settings.devices:
                devices = devices[::gpus_per_worker]
        except NumaError as error:
            if settings.on_error != OnError.warn:
                raise
            return unbound(self.topology, usable, settings, workers, str(error))
        return plan(self.topology, usable, settings, workers, devices)

    def _check_readable(self, settings: NumaConfig) -> None:
        for key, value, nothing in (("cpus", settings.cpus, Cpus.none), ("memory", settings.memory, Memory.none)):
            if self.unreadable and value != nothing:
                raise setting_error(key, value, f"{self.unreadable}; here only cpus=none with memory=none works")


def read_machine(root: str | Path = "/") -> Machine:
    """Read this host without creating a CUDA context.

    Where the system does not tell its topology (macOS, a container without /sys), all CPUs count as one node.

    Args:
        root: Folder with the machine's `sys` and `proc`.
    """
    try:
        topology, allowance = read_topology(root), read_allowance(root)
    except TopologyError as error:
        return _flat(str(error))
    library = nvml.load() if Path(root) == Path("/") else None
    return Machine(topology, allowance, read_accelerators(topology, root, library))


def _flat(problem: str) -> Machine:
    """A machine whose CPUs are all in one node without memory nodes.

    Neighbouring CPUs are taken for the hardware threads of a core, so that there are as many cores as psutil counts.
    """
    cpus = sorted(affinity() or range(os.cpu_count() or 1))
    per_core = max(1, len(cpus) // (psutil.cpu_count(logical=False) or len(cpus)))
    cores = {cpu: cpus[index - index % per_core] for index, cpu in enumerate(cpus)}
    known = {cpu: Cpu(cpu, cores[cpu], package=None, node=None) for cpu in cpus}
    return Machine(Topology(known, {}, ()), Allowance(frozenset(cpus), frozenset()), Accelerators(), problem)
