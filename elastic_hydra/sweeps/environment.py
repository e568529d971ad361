"""What a sweep runs in: versions of packages, and what its host has. It is recorded once for each launcher."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from elastic_hydra import __version__
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.numa import nvml

__all__ = ["environment"]


def environment(facts: HostFacts) -> dict[str, Any]:
    """Return the fields of the same names of `journal.events.SweepBegan`.

    Args:
        facts: what the launcher has found on this host.
    """
    return {"versions": _versions(), "cpus": facts.cpus, "memory": facts.memory, "gpu_names": _gpu_names(facts.gpus)}


def _versions() -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "elastic_hydra": __version__,
        **{name: metadata.version(name) for name in ("torch", "hydra-core", "omegaconf")},
    }
    return {name: version for name, version in found.items() if version}


def _gpu_names(count: int) -> list[str]:
    """Return the models of the GPUs that the launcher sees; where it does not see all, only if all are of one model."""
    if count == 0:
        return []
    names = nvml.names(nvml.load())
    of_all = names if len(names) == count else names[:1] * count if len(set(names)) == 1 else []
    return of_all or [""] * count
