"""A host of a sweep: what it has, its slots, and the memory of its GPUs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.resources.allocator import Allocator
from elastic_hydra.resources.examine import Examined
from elastic_hydra.resources.gpu_memory import GpuMemory

__all__ = ["Host"]


@dataclass(frozen=True)
class Host:
    """A machine whose parts jobs hold while they run."""

    name: str
    facts: HostFacts
    allocator: Allocator
    gpu_memory: GpuMemory
    ends: float = math.inf
    """When it will not be there any more, in seconds on the launcher's monotonic clock."""

    @classmethod
    def here(cls, settings: DictConfig, facts: HostFacts) -> Host:
        """Return the host on which this process runs, which is read once.

        Args:
            settings: the sweep's `hydra.launcher`.
            facts: what the launcher has found on this host.

        Raises:
            ConfigError: the sweep cannot run on this host as configured.
        """
        allocator = Allocator(settings, facts, os.uname().nodename, read_machine(), os.environ)
        return cls(allocator.host, facts, allocator, allocator.gpu_memory(), _end(facts))

    @classmethod
    def elsewhere(cls, name: str, settings: DictConfig, examined: Examined, environ: Mapping[str, str]) -> Host:
        """Return another host. The memory of its GPUs cannot be read from here, and is not waited for.

        Args:
            name: of the host.
            settings: the sweep's `hydra.launcher`.
            examined: what was found there.
            environ: the environment of agents there.

        Raises:
            ConfigError: the sweep cannot run there as configured.
        """
        facts = examined.facts
        allocator = Allocator(settings, facts, name, examined.machine, environ)
        return cls(name, facts, allocator, GpuMemory(facts.gpus, lambda _: {}, 0.0), _end(facts))


def _end(facts: HostFacts) -> float:
    return math.inf if facts.time_left is None else time.monotonic() + facts.time_left
