"""Which CPUs and memory nodes jobs may use, and which bindings to them would be applied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import Memory, NumaConfig
from elastic_hydra.config.profiles import profile_folder
from elastic_hydra.config.sizes import counted
from elastic_hydra.doctor.finding import Finding, warning, well
from elastic_hydra.numa.bind import memory_policy_obstacle
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.machine import Machine

__all__ = ["look", "profiles"]


def look(
    machine: Machine, facts: HostFacts, profiles: Mapping[str, NumaConfig], environ: Mapping[str, str] = os.environ
) -> Iterator[Finding]:
    """Yield what is found about CPUs, memory nodes and the profiles of `hydra/launcher/numa`.

    Args:
        machine: this host.
        facts: about this host.
        profiles: the profiles by their names.
        environ: the environment; CUDA_VISIBLE_DEVICES is read.
    """
    yield from _cpus(machine, facts)
    obstacle = memory_policy_obstacle()
    if machine.unreadable:
        advice = "use hydra/launcher/numa=none; a container needs /sys to be visible for more"
        yield warning("NUMA", f"no binding applies: {machine.unreadable}", advice)
        return
    if obstacle:
        yield warning("NUMA", f"no memory policy can be set: {obstacle}", "without it, only CPUs are bound")
    workers = max(1, facts.gpus)
    for name, settings in profiles.items():
        yield _profile(machine, name, settings, workers, environ, "" if settings.memory == Memory.none else obstacle)


def profiles() -> dict[str, NumaConfig]:
    """Read the profiles of `hydra/launcher/numa` that come with this package."""
    folder = profile_folder() / "hydra" / "launcher" / "numa"
    return {path.stem: _settings(path) for path in sorted(folder.glob("*.yaml"))}


def _settings(path: Path) -> NumaConfig:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    content.pop("defaults", None)
    settings = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(NumaConfig), content))
    assert isinstance(settings, NumaConfig)
    return settings


def _cpus(machine: Machine, facts: HostFacts) -> Iterator[Finding]:
    cpus, topology = machine.allowance.cpus, machine.topology
    nodes = topology.nodes_of(cpus)
    where = f"{counted(topology.cores(cpus), 'core')}, {counted(len(nodes), 'NUMA node')}"
    yield well("CPUs", f"{len(cpus)} of {os.cpu_count()} may be used ({where})")
    if facts.quota is not None and facts.quota < len(cpus):
        yield warning(
            "CPUs",
            f"the control group allows {facts.quota:g} CPUs' worth of time on {len(cpus)} CPUs",
            "threads are reduced to that; for a process that counts CPUs itself, set OMP_NUM_THREADS, or raise the "
            "limit (docker: --cpus, Slurm: --cpus-per-task)",
        )


def _profile(
    machine: Machine, name: str, settings: NumaConfig, workers: int, environ: Mapping[str, str], obstacle: str
) -> Finding:
    part, who = f"numa={name}", counted(workers, "worker")
    try:
        bindings = machine.plan(settings, workers, environ)
    except NumaError as error:
        return well(part, f"does not suit {who}: {error}")
    problems = dict.fromkeys(binding.problem for binding in bindings if binding.problem)
    if problems:
        return warning(part, f"would not bind {who}: {'; '.join(problems)}", "choose another profile")
    sizes = sorted({len(binding.cpus) for binding in bindings})
    if not sizes[-1]:
        return well(part, "binds nothing")
    each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    memory = f", memory {bindings[0].memory}" if bindings[0].memory != "none" and not obstacle else ""
    return well(
        part, f"would bind {who} to {each} of {len(machine.allowance.cpus)} CPUs{' each' * (workers > 1)}{memory}"
    )
