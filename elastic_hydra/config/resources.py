"""`hydra.launcher.resources`: what a job takes of the host: its workers, and their GPUs, CPUs, memory and threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from elastic_hydra.config.durations import number_of_seconds
from elastic_hydra.config.errors import nearest
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.numa import Cpus, Near, NumaConfig
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.sizes import bytes_in_words, counted, number_of_bytes
from elastic_hydra.config.values import count

__all__ = [
    "Demand",
    "ResourcesConfig",
    "cpus_of",
    "demand_in_words",
    "demand_of",
    "gpus_per_worker_of",
    "read_parallel",
    "threads_of",
    "workers_of",
]


@names_its_keys
@dataclass
class ResourcesConfig:
    """What one job takes of this host, so that others can run beside it: `hydra.launcher.resources`."""

    gpus_per_worker: Any = "auto"
    """GPUs per worker: a number, 0 or more, or `auto` (1 where there are GPUs). With 2, worker 0 has the job's first
    two GPUs, worker 1 the next two, and so on."""
    cpus_per_worker: Any = "auto"
    """CPUs (hardware threads) per worker: a number, 1 or more, or `auto` (an equal share of the host for each of
    `parallel` jobs; with `parallel=auto` the cores that belong to the job's GPUs, or 1). Workers without a GPU that
    have `numa.cores_per_worker`, or a node each (`numa=cpu-throughput` with `parallel=auto`), take that of one NUMA
    node."""
    memory_per_job: Optional[str] = None  # noqa: UP045 (OmegaConf reads it at run time)
    """Memory that a job needs, as `16GB`; null: it is not counted."""
    jobs_per_gpu: int = 1
    """How many jobs may share a GPU."""
    gpu_memory_wait: float = 10.0
    """Seconds that a GPU stays empty at most until the memory of the job that has ended there is free again; 0: the
    next job starts at once. A GPU that several jobs share is not waited for."""
    duration: Any = None
    """How long a job takes at most, as `90min`, `2h`, or in seconds: it starts on no host whose time is over before, as
    that of a Slurm job with a time limit. null: nobody knows, or the job writes checkpoints when it is told to stop and
    goes on from them elsewhere."""


@dataclass(frozen=True)
class Demand:
    """The part of a host that a job takes while it runs beside others, and on how many hosts it takes it."""

    gpus: int = 0
    cpus: int | None = None
    """Hardware threads; None: an equal share for each of the jobs that may run at once, or (with `parallel=auto`) what
    belongs to its GPUs."""
    memory: int = 0
    """Bytes."""
    instances: int = 0
    """The number of CPU-only workers that each take `instance_cores` of one NUMA node. They replace `cpus`."""
    instance_cores: int | None = None
    """Physical cores of one instance; None: all cores of a node."""
    listed: tuple[str, ...] = ()
    """Lists of CPUs, such as `0-3,8`, which the job takes. They replace `cpus`."""
    cores: int = 1
    """Physical cores that the workers cannot do without, of those that belong to the job's GPUs."""
    duration: float = 0.0
    """Seconds for which the host must still be there; 0: any time is enough."""
    nodes: int = 1
    """Different hosts that the launcher gives to the job. Where each node has a launcher of its own, each gives one."""


def demand_in_words(demand: Demand) -> str:
    """Say what a job needs, for people; empty: no particular part of one host."""
    cores = "all cores of a NUMA node" if demand.instance_cores is None else f"{demand.instance_cores} cores"
    parts = {
        counted(demand.gpus, "GPU"): demand.gpus,
        counted(demand.cpus or 0, "CPU"): demand.cpus,
        f"{demand.instances} times {cores}": demand.instances,
        f"CPUs {' and '.join(demand.listed)}": demand.listed,
        f"{bytes_in_words(demand.memory)} of memory": demand.memory,
        f"{demand.duration / 60:.3g} minutes": demand.duration,
    }
    needed = ", ".join(words for words, needed in parts.items() if needed)
    if demand.nodes == 1:
        return needed
    return f"{demand.nodes} hosts" + (f", and on each {needed}" if needed else "")


def read_parallel(value: Any, problems: Problems) -> int | None:
    """Read `hydra.launcher.parallel`.

    Args:
        value: the key's value.
        problems: takes what is wrong.

    Returns:
        how many jobs run side by side; None: as many as fit (`auto`).
    """
    if value == "auto":
        return None
    number = count(value, 1)
    if number is None:
        problems.add("parallel", value, f"must be 1 or more, or auto{nearest(value, ['auto'])}")
    return number or 1


def workers_of(value: Any, facts: HostFacts, parallel: int | None, problems: Problems) -> int:
    """Read `hydra.launcher.nproc_per_node`.

    Args:
        value: the key's value.
        facts: this host.
        parallel: jobs side by side; None: as many as fit.
        problems: takes what is wrong.

    Returns:
        the workers of the job on this host, 1 or more.
    """
    word = str(value).strip().lower()
    if word == "auto":
        # One worker for each GPU of the job's part of the host. With parallel=auto, this is the smallest possible part.
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
    keys: ResourcesConfig,
    numa: NumaConfig,
    workers: int,
    parallel: int | None,
    facts: HostFacts,
    problems: Problems,
) -> Demand:
    """Compute what a job holds while others run beside it. A job that runs alone needs to hold nothing.

    Args:
        keys: `hydra.launcher.resources`.
        numa: `hydra.launcher.numa`: its CPUs per worker count where `resources` says nothing.
        workers: the job's workers on this host.
        parallel: jobs side by side; None: as many as fit.
        facts: this host.
        problems: takes what is wrong.
    """
    gpus_per_worker = _count("resources.gpus_per_worker", keys.gpus_per_worker, 0, problems)
    cpus_per_worker = _count("resources.cpus_per_worker", keys.cpus_per_worker, 1, problems)
    memory = _memory_of(keys, facts, problems)
    duration = _duration_of(keys, facts, problems)
    if parallel == 1:
        asked = {"GPUs": workers * (gpus_per_worker or 0), "CPUs": workers * (cpus_per_worker or 0)}
        _check_it_fits(keys, asked, workers, facts, problems)
        return Demand(duration=duration)
    gpus = workers * (min(1, facts.gpus) if gpus_per_worker is None else gpus_per_worker)
    cpus: int | None = None
    instances, listed = 0, tuple[str, ...]()
    if cpus_per_worker is None and numa.cpus == Cpus.explicit:
        listed = tuple(numa.explicit)
    elif cpus_per_worker is None and not gpus and _are_instances(numa, parallel):
        instances = workers
    if cpus_per_worker is not None:
        cpus = workers * cpus_per_worker
    elif parallel is None and not instances and not listed:
        cpus = None if gpus and facts.gpus else workers
    _check_it_fits(keys, {"GPUs": gpus, "CPUs": cpus or 0}, workers, facts, problems)
    instance_cores = numa.cores_per_worker if instances else None
    has_part_of_gpus = parallel is None and gpus and cpus is None
    cores = _least_cores(numa, workers) if has_part_of_gpus else 1
    return Demand(gpus, cpus, memory, instances, instance_cores, listed, cores, duration)


def _memory_of(keys: ResourcesConfig, facts: HostFacts, problems: Problems) -> int:
    """Read `memory_per_job`, in bytes."""
    memory = _bytes("resources.memory_per_job", keys.memory_per_job, problems)
    if memory > facts.memory:
        problem = f"this host has {bytes_in_words(facts.memory)}: the job can never run"
        problems.add("resources.memory_per_job", keys.memory_per_job, problem)
    return memory


def _duration_of(keys: ResourcesConfig, facts: HostFacts, problems: Problems) -> float:
    """Read `duration`, in seconds."""
    if keys.duration is None:
        return 0.0
    duration = number_of_seconds(keys.duration)
    if duration is None:
        problems.add("resources.duration", keys.duration, "must be a time such as 90min, 2h, or a number of seconds")
        return 0.0
    if facts.time_left is not None and duration > facts.time_left:
        problem = (
            f"the time limit of this host comes in {facts.time_left / 60:.3g} minutes: the job can never run. Ask for "
            "more time (with hosts=slurm, by hydra.launcher.hosts.timeout_min), or leave the key out if the job writes "
            "checkpoints, and goes on from them elsewhere"
        )
        problems.add("resources.duration", keys.duration, problem)
    return duration


def cpus_of(demand: Demand, facts: HostFacts, parallel: int | None, jobs_per_gpu: int) -> int:
    """Estimate how many hardware threads a job will have. Its slot is cut in whole cores, so it may have a few more.

    Args:
        demand: what the job takes.
        facts: this host.
        parallel: jobs side by side; None: as many as fit.
        jobs_per_gpu: jobs that may share a GPU.

    Returns:
        the number of hardware threads, 1 or more.
    """
    if demand.cpus is not None:
        return demand.cpus
    if parallel is None and demand.gpus and facts.gpus and jobs_per_gpu > 0:
        return max(1, facts.cpus * demand.gpus // (facts.gpus * jobs_per_gpu))
    return max(1, facts.cpus // (parallel or 1))


_WAYS_OUT = {
    "GPUs": "or gpus_per_worker=0, with which a job sees all GPUs and none is counted",
    "CPUs": "or fewer CPUs each",
}


def _check_it_fits(
    keys: ResourcesConfig, asked: Mapping[str, int], workers: int, facts: HostFacts, problems: Problems
) -> None:
    available = {"GPUs": facts.gpus, "CPUs": facts.cpus}
    for unit, number in asked.items():
        if number > available[unit]:
            key = f"{unit[:-1].lower()}s_per_worker"
            problem = (
                f"{workers} workers x {number // workers} = {number} {unit}, and this host has {available[unit]}: "
                f"it can never run. Choose fewer workers (hydra.launcher.nproc_per_node), {_WAYS_OUT[unit]}"
            )
            problems.add(f"resources.{key}", getattr(keys, key), problem)


def gpus_per_worker_of(keys: ResourcesConfig) -> int:
    """Return how many GPUs belong to each worker, 1 or more; `demand_of` checks the value."""
    return max(1, _count("", keys.gpus_per_worker, 0, Problems()) or 1)


def _are_instances(numa: NumaConfig, parallel: int | None) -> bool:
    """Whether each CPU-only worker takes some cores of one NUMA node, or a whole node (`numa=cpu-throughput`)."""
    if numa.cores_per_worker is not None:
        return bool(numa.cpus != Cpus.none and numa.cores_per_worker > 0)
    whole_node = numa.cpus == Cpus.node and numa.near == Near.none and numa.exclusive
    return bool(parallel is None and whole_node)


def _least_cores(numa: NumaConfig, workers: int) -> int:
    """Return the physical cores without which the workers of one job could not be bound."""
    each = int(numa.cores_per_worker or 1)
    if numa.cpus in (Cpus.none, Cpus.explicit):
        return 1
    return max(1, each * workers if numa.exclusive or numa.cpus == Cpus.spread else each)


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
    """Read `hydra.launcher.omp_num_threads`.

    Args:
        value: the key's value.
        workers: the job's workers on this host.
        cpus: hardware threads of the job.
        environ: the environment variables of this process.
        problems: takes what is wrong.

    Returns:
        the `OMP_NUM_THREADS` of each worker; None: the variable is left alone.
    """
    if value is None:
        return None
    if value == "auto":
        return None if "OMP_NUM_THREADS" in environ else max(1, cpus // workers)
    number = count(value, 1)
    if number is None:
        problems.add("omp_num_threads", value, f"must be 1 or more, auto, or null{nearest(value, ['auto', 'null'])}")
    return number
