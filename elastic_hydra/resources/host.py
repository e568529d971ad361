"""A host of a sweep: its slots, and the memory of its GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.resources.allocator import Allocator
from elastic_hydra.resources.gpu_memory import GpuMemory

__all__ = ["Host"]


@dataclass(frozen=True)
class Host:
    """A machine whose parts jobs hold while they run."""

    name: str
    allocator: Allocator
    gpu_memory: GpuMemory

    @classmethod
    def of(cls, settings: DictConfig, facts: HostFacts) -> Host:
        """Return the host on which this process runs.

        Args:
            settings: the sweep's `hydra.launcher`.
            facts: what the launcher has found on this host.

        Raises:
            ConfigError: the sweep cannot run on this host as configured.
        """
        allocator = Allocator(settings, facts)
        return cls(allocator.host, allocator, allocator.gpu_memory())
