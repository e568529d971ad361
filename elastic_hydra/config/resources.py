"""What a job takes of the host: its workers, and their GPUs, CPUs, memory and threads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_hydra.config.errors import nearest
from elastic_hydra.config.numa import Cpus, Near
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.retry import number_of_bytes
from elastic_hydra.config.values import count

__all__ = ["Demand", "HostFacts", "demand_of", "read_parallel", "threads_of", "workers_of"]


@dataclass(frozen=True)
class HostFacts:
    """What the launcher found on this host."""

    cpus: int
    """CPUs that this process may use."""
    gpus: int
    """Accelerators that it sees."""
    torch: tuple[int, int]
    """Version of the installed torch."""
    memory: int = 0
    """Bytes of memory that it may use."""
    backends: Collection[str] = ("local", "c10d", "static", "etcd", "etcd-v2")
    """Rendezvous backends that torch knows."""
    event_handlers: Collection[str] = ("null", "console")
    """Event log handlers that torch knows."""
    has_etcd: bool = False
    """Whether the client package of etcd is installed."""
    quota: float | None = None
    """CPUs' worth of time that its container may use; None without a limit."""

    def within_quota(self, cpus: int) -> int:
        """Return how many threads some of the CPUs can keep busy: their share of the quota, 1 or more."""
        return cpus if self.quota is None else max(1, min(cpus, int(self.quota * cpus / self.cpus)))


@dataclass(frozen=True)
class Demand:
    """What a job takes of the host while it runs beside others."""

    gpus: int = 0
    cpus: int | None = None
    """Hardware threads; None: an equal share for each of the jobs that may run at once, or (with `parallel=auto`) what
    belongs to its GPUs."""
    memory: int = 0
    """Bytes."""
    instances: int = 0
    """CPU-only workers that each take `instance_cores` of one NUMA node, instead of a number of CPUs."""
    instance_cores: int | None = None
    """Physical cores; None: all of a node."""
    listed: tuple[str, ...] = ()
    """The CPUs themselves, in lists such as `0-3,8`, instead of a number of them."""
    cores: int = 1
    """Of what belongs to its GPUs, the physical cores that its workers cannot do without."""


def read_parallel(value: Any, problems: Problems) -> int | None:
    """Read `hydra.launcher.parallel`; None is `auto`."""
    if value == "auto":
        return None
    number = count(value, 1)
    if number is None:
        problems.add("parallel", value, f"must be 1 or more, or auto{nearest(value, ['auto'])}")
    return number or 1


def workers_of(value: Any, facts: HostFacts, parallel: int | None, problems: Problems) -> int:
    word = str(value).strip().lower()
    if word == "auto":
        # As many as the job's part of the host has GPUs; with parallel=auto the smallest part there is.
        return max(1, facts.gpus // parallel) if parallel else 1
    if word == "cpu":
        return max(1, facts.cpus // (parallel or 1))
    if word == "gpu":
        problems.require(
            facts.gpus > 0, "nproc_per_node", value, "this host has no GPU that torch sees; use cpu or a number"
        )
        return max(1, facts.gpus // (parallel or 1))
    if (number := count(word, 1)) is not None:
        return number
    words = ("auto", "cpu", "gpu")
    problems.add("nproc_per_node", value, f"must be 1 or more, or one of {', '.join(words)}{nearest(word, words)}")
    return 1


def demand_of(
    settings: Mapping[str, Any],
    numa: Mapping[str, Any],
    workers: int,
    parallel: int | None,
    facts: HostFacts,
    problems: Problems,
) -> Demand:
    """Compute what a job holds while others run beside it; a job alone holds nothing, for it has everything.

    Args:
        settings: `hydra.launcher.resources`.
        numa: `hydra.launcher.numa`: workers that have cores of their own take these, where nothing else is asked for.
        workers: of the job on this host.
        parallel: jobs side by side; None: as many as fit.
        facts: this host.
        problems: takes what is wrong.
    """
    gpus_per_worker = _count("resources.gpus_per_worker", settings["gpus_per_worker"], 0, problems)
    cpus_per_worker = _count("resources.cpus_per_worker", settings["cpus_per_worker"], 1, problems)
    memory = _bytes("resources.memory_per_job", settings["memory_per_job"], problems)
    if memory > facts.memory:
        problem = f"this host has {facts.memory / 1e9:.1f} GB: the job can never run"
        problems.add("resources.memory_per_job", settings["memory_per_job"], problem)
    if parallel == 1:
        asked = {"GPUs": workers * (gpus_per_worker or 0), "CPUs": workers * (cpus_per_worker or 0)}
        _check_it_fits(asked, workers, facts, problems)
        return Demand()
    gpus = workers * (min(1, facts.gpus) if gpus_per_worker is None else gpus_per_worker)
    cpus: int | None = None
    instances, listed = 0, tuple[str, ...]()
    if cpus_per_worker is None and numa["cpus"] == Cpus.explicit:
        listed = tuple(numa["explicit"])
    elif cpus_per_worker is None and not gpus and _are_instances(numa, parallel):
        instances = workers
    if cpus_per_worker is not None:
        cpus = workers * cpus_per_worker
    elif parallel is None and not instances and not listed:
        cpus = None if gpus and facts.gpus else workers
    _check_it_fits({"GPUs": gpus, "CPUs": cpus or 0}, workers, facts, problems)
    instance_cores = numa["cores_per_worker"] if instances else None
    own = parallel is None and gpus and cpus is None
    cores = _least_cores(numa, workers) if own else 1
    return Demand(gpus, cpus, memory, instances, instance_cores, listed, cores)


def cpus_of(demand: Demand, facts: HostFacts, parallel: int | None, jobs_per_gpu: int) -> int:
    """Return about how many hardware threads a job will have, 1 or more; its slot is in whole cores."""
    if demand.cpus is not None:
        return demand.cpus
    if parallel is None and demand.gpus and facts.gpus and jobs_per_gpu > 0:
        return max(1, facts.cpus * demand.gpus // (facts.gpus * jobs_per_gpu))
    return max(1, facts.cpus // (parallel or 1))


def _check_it_fits(wanted: Mapping[str, int], workers: int, facts: HostFacts, problems: Problems) -> None:
    there = {"GPUs": facts.gpus, "CPUs": facts.cpus}
    for what, number in wanted.items():
        if number > there[what]:
            each = number // workers
            problem = f"{workers} workers x {each} = {number} {what}, and this host has {there[what]}: it can never run"
            problems.add(f"resources.{what[:-1].lower()}s_per_worker", each, problem)


def gpus_per_worker_of(settings: Mapping[str, Any]) -> int:
    """Return how many GPUs belong to each worker that has any; `demand_of` says what is wrong with the value."""
    return max(1, _count("", settings["gpus_per_worker"], 0, Problems()) or 1)


def _are_instances(numa: Mapping[str, Any], parallel: int | None) -> bool:
    """Whether CPU-only workers each take so many cores of one NUMA node, or all of it (`numa=cpu-throughput`)."""
    if numa["cores_per_worker"] is not None:
        return bool(numa["cpus"] != Cpus.none and numa["cores_per_worker"] > 0)
    whole_node = numa["cpus"] == Cpus.node and numa["near"] == Near.none and numa["exclusive"]
    return bool(parallel is None and whole_node)


def _least_cores(numa: Mapping[str, Any], workers: int) -> int:
    each = int(numa["cores_per_worker"] or 1)
    if numa["cpus"] in (Cpus.none, Cpus.explicit):
        return 1
    return max(1, each * workers if numa["exclusive"] or numa["cpus"] == Cpus.spread else each)


def _count(key: str, value: Any, least: int, problems: Problems) -> int | None:
    if value == "auto":
        return None
    number = count(value, least)
    if number is None:
        problems.add(key, value, f"must be {least} or more, or auto{nearest(value, ['auto'])}")
    return number


def _bytes(key: str, value: Any, problems: Problems) -> int:
    if value is None:
        return 0
    size = number_of_bytes(value)
    if size is None:
        problems.add(key, value, "must be a size such as 16GB, 512MiB, or a number of bytes")
        return 0
    return size


def threads_of(value: Any, workers: int, cpus: int, environ: Mapping[str, str], problems: Problems) -> int | None:
    if value is None:
        return None
    if value == "auto":
        return None if "OMP_NUM_THREADS" in environ else max(1, cpus // workers)
    number = count(value, 1)
    if number is None:
        problems.add("omp_num_threads", value, f"must be 1 or more, auto, or null{nearest(value, ['auto', 'null'])}")
    return number
