"""This host as the launcher sees it: topology, allowance and accelerators together, and what to do without them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError
from elastic_hydra.numa.allowance import Allowance, read_allowance
from elastic_hydra.numa.binding import Binding, unbound
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.devices import visible_accelerators
from elastic_hydra.numa.errors import NumaError, TopologyError, setting_error
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.topology import Device, Topology, read_topology


@dataclass(frozen=True)
class Machine:
    """What there is to plan with."""

    topology: Topology
    allowance: Allowance
    devices: tuple[Device, ...] = ()
    problem: str = ""
    """Why nothing can be bound here; empty where it can, or where nothing is asked for."""

    def plan(
        self,
        settings: NumaConfig,
        workers: int,
        slot: Allowance | None = None,
        devices: tuple[Device, ...] | None = None,
    ) -> tuple[Binding, ...]:
        """`plan.plan` for this machine: on all of it or on a slot, with all accelerators or the slot's."""
        own = self.devices if devices is None else devices
        if not self.problem:
            return plan(self.topology, slot or self.allowance, settings, workers, own)
        free = replace(settings, cpus=Cpus.none, memory=Memory.none, cores_per_worker=None, explicit=[])
        return unbound(plan(self.topology, slot or self.allowance, free, workers), self.problem)


def read_machine(settings: NumaConfig, environ: Mapping[str, str], root: str | Path = "/") -> Machine:
    """Read this host, in the agent and without a CUDA context.

    Where the system does not tell its topology (macOS, a container without /sys), all CPUs count as one node, and
    nothing can be bound.

    Args:
        settings: `hydra.launcher.numa`.
        environ: The workers' environment; CUDA_VISIBLE_DEVICES and its like are read.
        root: Folder with the machine's `sys` and `proc`.

    Raises:
        NumaError: Workers are to be bound, the system does not tell its topology, and `on_error` is not `warn`.
    """
    try:
        topology, allowance = read_topology(root), read_allowance(root)
        return Machine(topology, allowance, visible_accelerators(topology, environ, root, addresses=settings.devices))
    except TopologyError as error:
        if settings.cpus == Cpus.none and settings.memory == Memory.none:
            return _flat("")
        key, value = ("cpus", settings.cpus) if settings.cpus != Cpus.none else ("memory", settings.memory)
        refusal = setting_error(key, value, f"{error}; here only cpus=none with memory=none works")
        if settings.on_error == OnError.error:
            raise refusal from error
        return _flat(str(refusal))
    except NumaError as error:
        if settings.on_error == OnError.error:
            raise
        return Machine(topology, allowance, (), str(error))


def _flat(problem: str) -> Machine:
    """All CPUs as one node without memory nodes; neighbouring CPUs make a core, as many as psutil counts."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    per_core = max(1, len(cpus) // (psutil.cpu_count(logical=False) or len(cpus)))
    cores = {cpu: cpus[index - index % per_core] for index, cpu in enumerate(cpus)}
    known = {cpu: Cpu(cpu, cores[cpu], package=None, node=None) for cpu in cpus}
    return Machine(Topology(known, {}, ()), Allowance(frozenset(cpus), frozenset()), (), problem)
