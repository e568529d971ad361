"""Where the workers of a group run: planned by the agent, anew at every start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra.config.numa import Cpus, Memory, Near, NumaConfig, OnError
from elastic_hydra.elastic.launch_config import LaunchConfig
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.numa.report import render
from elastic_hydra.numa.thread_env import environment, preload

__all__ = ["Placement", "Placer", "binds", "from_torch"]

logger = get_logger("elastic_hydra.agent")

_TORCH_MODES = {
    "node": NumaConfig(cpus=Cpus.node),
    "socket": NumaConfig(cpus=Cpus.package),
    "exclusive": NumaConfig(cpus=Cpus.node, exclusive=True),
    "core-complex": NumaConfig(cpus=Cpus.llc),
}


@dataclass(frozen=True)
class Placement:
    """The plan for one group, by local rank."""

    bindings: tuple[Binding, ...] = ()
    environments: tuple[Mapping[str, str], ...] = ()

    def binding(self, local_rank: int) -> Binding | None:
        """Return a worker's binding; None when workers are not bound."""
        return self.bindings[local_rank] if self.bindings else None

    def environment(self, local_rank: int) -> Mapping[str, str]:
        """Return the variables that follow from it."""
        return self.environments[local_rank] if self.environments else {}


@dataclass(frozen=True)
class Placer:
    """Plans where the groups of one agent run."""

    settings: NumaConfig | None = None
    """`hydra.launcher.numa`; None or without CPUs and memory leaves the workers to the kernel."""
    slot: Allowance | None = None
    """What the job holds of this host; None: all that this process may use."""
    gpus_per_worker: int = 1
    """GPUs that belong to each worker."""
    on_bindings: Callable[[Sequence[Binding]], None] | None = None
    """Called with the plan of each start, where there is one."""

    @classmethod
    def of(cls, config: LaunchConfig) -> Placer:
        """Return what a launch asks for."""
        numa = config.numa or from_torch(config.numa_options)
        return cls(numa, config.slot, config.gpus_per_worker, config.on_bindings)

    def place(self, workers: int, environ: Mapping[str, str], program: bool) -> Placement:
        """Plan the bindings of a group on this host as it is now.

        Args:
            workers: how many.
            environ: what they inherit.
            program: whether they execute a program or a new interpreter, whose memory allocator can still be chosen.

        Raises:
            NumaError: it cannot be done as asked.
        """
        settings = self.settings
        if settings is None or not binds(settings):
            return Placement()
        bindings = read_machine().plan(settings, workers, environ, self.slot, self.gpus_per_worker)
        logger.debug("bindings of the workers:\n%s", render(bindings))
        if self.on_bindings is not None:
            self.on_bindings(bindings)
        allocator = preload(settings.allocator, environ) if program else None
        environments, warnings = [], list[str]()
        for binding in bindings:
            for_threads = environment(binding, environ, settings.environ)
            environments.append({**for_threads.variables, **(allocator.variables if allocator else {})})
            warnings += for_threads.warnings
        warnings += [*(allocator.warnings if allocator else ()), *(binding.problem for binding in bindings)]
        for warning in dict.fromkeys(filter(None, warnings)):
            logger.warning("%s", warning)
        return Placement(bindings, tuple(environments))


def binds(settings: NumaConfig) -> bool:
    """Whether settings ask for anything."""
    return settings.cpus != Cpus.none or settings.memory != Memory.none


def from_torch(options: Any) -> NumaConfig | None:
    """Translate torch's `NumaOptions`: the same CPUs, without its need for `numactl` and for a GPU per worker.

    Args:
        options: of a `LaunchConfig`; None means no binding.
    """
    if options is None:
        return None
    base = _TORCH_MODES[options.affinity_mode.value]
    lenient = bool(getattr(options, "should_fall_back_if_binding_fails", False))
    on_error = OnError.warn if lenient else OnError.error
    return NumaConfig(cpus=base.cpus, exclusive=base.exclusive, near=Near.auto, on_error=on_error)
