"""`hydra.launcher.numa`: which CPUs and which memory each worker gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Dict, List, Optional, Union  # noqa: UP035 (OmegaConf reads these at run time)

from elastic_hydra.config.lists import parse_list
from elastic_hydra.config.problems import ROOT, Problems

__all__ = ["Allocator", "Cpus", "Memory", "Near", "NumaConfig", "OnError", "check_numa"]


class Cpus(str, Enum):
    """What a worker gets; see `NumaConfig.cpus`."""

    none = "none"
    package = "package"
    node = "node"
    llc = "llc"
    core = "core"
    spread = "spread"
    explicit = "explicit"


class Near(str, Enum):
    """What a worker is anchored to; see `NumaConfig.near`."""

    auto = "auto"
    gpu = "gpu"
    none = "none"


class Memory(str, Enum):
    """Where a worker's memory comes from; see `NumaConfig.memory`."""

    none = "none"
    local = "local"
    preferred = "preferred"
    bind = "bind"
    interleave = "interleave"


class Allocator(str, Enum):
    """Memory allocator of script entry points; see `NumaConfig.allocator`."""

    none = "none"
    auto = "auto"
    tcmalloc = "tcmalloc"
    jemalloc = "jemalloc"


class OnError(str, Enum):
    """What happens when something cannot be done."""

    error = "error"
    warn = "warn"


@dataclass
class NumaConfig:
    """Settings of `hydra/launcher/numa=…`; the profiles fill them, single keys override."""

    cpus: Cpus = Cpus.none
    """What a worker gets: `none` (no binding), one `package` (socket), one NUMA `node`, one last-level cache (`llc`),
    one `core`, an even part of all the job's CPUs (`spread`), or the lists of `explicit`."""

    near: Near = Near.auto
    """Anchor: `gpu` places each worker at its accelerator and fails without one, `none` places evenly, `auto` takes the
    accelerator where there is one."""

    exclusive: bool = False
    """Whether workers that would get the same package, node, cache or core share it out between them, so that no CPU
    has two workers. `spread` is so anyway while there are enough CPUs; with this key it fails when there are not."""

    smt: bool = True
    """Whether workers get all hardware threads of their cores, or one per core."""

    cores_per_worker: Optional[int] = None  # noqa: UP045
    """Physical cores per worker, 1 or more; null: all that `cpus` gives. Workers of this size do not cross nodes while
    enough of them fit."""

    reserve_cores: int = 0
    """Physical cores per host, 0 or more, that no worker gets: the first ones, where the kernel's own work runs."""

    memory: Memory = Memory.none
    """Memory policy: `none` (inherited), `local` (the node a thread runs on), `preferred` (the worker's nodes, others
    when they are full), `bind` (the worker's nodes only, or out of memory), `interleave` (pages in turn over them)."""

    migrate: bool = True
    """Whether a worker moves the pages it has touched before it was bound; only with a memory policy."""

    threads: Optional[Union[int, str]] = "auto"  # noqa: UP007, UP045
    """Threads per worker of torch, OpenMP, MKL and OpenBLAS: a number, `auto` (its physical cores, shared out among the
    workers on them, within the container's CPU quota), or null (leave as is)."""

    explicit: List[str] = field(default_factory=list)  # noqa: UP006
    """With `cpus=explicit`: one list of CPUs per local rank, as the kernel writes them: `["0-3,8", "4-7"]`.
    Empty: none, as with any other `cpus`."""

    devices: List[str] = field(default_factory=list)  # noqa: UP006
    """PCI addresses of the accelerators of local rank 0, 1, …; empty: those the process sees, by index."""

    allocator: Allocator = Allocator.none
    """Memory allocator preloaded into workers that start as programs (script entry points, `start_method=spawn`):
    `tcmalloc`, `jemalloc`, or `auto` (the first of the two that is installed, if any)."""

    environ: Dict[str, str] = field(default_factory=dict)  # noqa: UP006
    """Environment variables for the workers, unless they are set already."""

    on_error: OnError = OnError.error
    """When workers cannot be bound as asked: `error` fails the job, `warn` says so once and starts them unbound."""

    on_memory_error: OnError = OnError.warn
    """When the kernel or a container refuses the memory policy: `error` fails the job, `warn` says so once and goes
    on."""


def check_numa(keys: NumaConfig, problems: Problems) -> None:
    """Check what can be checked without knowing the machine; what this machine cannot do is found when it is planned.

    Hydra has checked types and choices when it composed the settings. Settings that are made in Python have not been
    checked.

    Args:
        keys: `hydra.launcher.numa`.
        problems: takes what is wrong.
    """
    for key, choices in (("cpus", Cpus), ("near", Near), ("memory", Memory), ("allocator", Allocator)):
        problems.one_of(f"numa.{key}", getattr(keys, key), [choice.value for choice in choices])
    cores = keys.cores_per_worker
    if cores is not None and cores < 1:
        problems.add("numa.cores_per_worker", cores, "must be 1 or more, or null")
    if cores is not None and keys.cpus in (Cpus.none, Cpus.explicit):
        unit = Cpus(keys.cpus).value
        problem = f"has no meaning with {ROOT}.numa.cpus={unit}; choose spread, core, llc, node or package"
        problems.add("numa.cores_per_worker", cores, problem)
    problems.at_least(0, "numa.reserve_cores", keys.reserve_cores)
    threads = keys.threads
    if threads is not None and threads != "auto" and (not str(threads).isdecimal() or int(threads) < 1):
        problems.add("numa.threads", threads, "must be auto, a number of 1 or more, or null")
    _check_explicit(list(keys.explicit), keys.cpus == Cpus.explicit, problems)


def _check_explicit(lists: list[str], are_read: bool, problems: Problems) -> None:
    if are_read and not lists:
        problems.add("numa.explicit", lists, f"{ROOT}.numa.cpus=explicit needs one list of CPUs per local rank")
    if lists and not are_read:
        problems.add("numa.explicit", lists, f"is read only with {ROOT}.numa.cpus=explicit")
    for text in lists:
        try:
            empty = not parse_list(text)
        except ValueError:
            empty = True
        if empty:
            problems.add("numa.explicit", lists, f"{text!r} is not a list of CPUs such as '0-3,8'")
