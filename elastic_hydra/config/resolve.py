"""From a job's `hydra.launcher` and the machine to what is launched: every check, and every computed default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elastic_hydra.config.limits import retry_of, watch_of
from elastic_hydra.config.meeting import rendezvous_of
from elastic_hydra.config.numa import Cpus, NumaConfig
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.resources import (
    Demand,
    HostFacts,
    cpus_of,
    demand_of,
    gpus_per_worker_of,
    read_parallel,
    threads_of,
    workers_of,
)
from elastic_hydra.config.retry import RetryConfig, WatchConfig
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.tree import check_tree
from elastic_hydra.config.values import sexagesimal, value_at
from elastic_hydra.config.whole_sweep import check_whole_sweep, whole_sweep_of

__all__ = ["Demand", "HostFacts", "Launch", "resolve"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "OFF")

_SINCE = {
    # Options that the oldest supported torch does not know, and the version that brought them.
    "virtual_local_rank": (2, 10),
    "logs.duplicate_stdout_filters": (2, 10),
    "logs.duplicate_stderr_filters": (2, 10),
}


@dataclass(frozen=True)
class Launch:
    """One job, ready to launch: plain values, all checked."""

    min_nodes: int
    max_nodes: int
    nproc_per_node: int
    start_method: str
    role: str
    backend: str
    endpoint: str
    rdzv_configs: dict[str, Any]
    rendezvous_id: str | None
    local_addr: str | None
    retry: RetryConfig
    watch: WatchConfig
    monitor_interval: float
    signals_to_handle: tuple[str, ...]
    checkpoint_timeout: int
    shutdown_timeout: int
    exit_barrier_timeout: float
    event_log_handler: str
    return_values: str
    omp_num_threads: int | None
    """None leaves the variable alone."""
    demand: Demand
    gpus_per_worker: int
    """How many GPUs belong to each worker, 1 or more."""
    numa: NumaConfig
    log_dir: str | None
    redirects: int | dict[int, int]
    tee: int | dict[int, int]
    local_ranks_filter: tuple[int, ...] | None
    line_prefix: str
    other_ranks_level: str
    whole_sweep: dict[str, Any] = field(default_factory=dict)
    """What this job's configuration says of the keys that hold for the whole sweep."""
    torch_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of torch's LaunchConfig that only newer versions have, as far as this one has them."""

    @property
    def several_nodes(self) -> bool:
        """Whether the job may have more than one node."""
        return self.max_nodes > 1


def resolve(settings: Mapping[str, Any], facts: HostFacts, environ: Mapping[str, str]) -> Launch:
    """Check a job's settings and compute what they leave open.

    Args:
        settings: the job's `hydra.launcher`, interpolations resolved.
        facts: this host.
        environ: its environment variables.

    Returns:
        what to launch.

    Raises:
        ConfigError: something is wrong; it lists everything that is.
    """
    problems = Problems()
    check_tree(settings, ElasticConfig, problems)
    problems.raise_any()
    rendezvous, logs = settings["rendezvous"], settings["logs"]

    min_nodes, max_nodes = _nodes(settings["nodes"], problems)
    parallel = read_parallel(settings["parallel"], Problems())  # what is wrong with it is said below
    workers = workers_of(settings["nproc_per_node"], facts, parallel, problems)
    demand = demand_of(settings["resources"], settings["numa"], workers, parallel, facts, problems)
    _check_values(settings, facts, problems)
    backend, endpoint, configs = rendezvous_of(rendezvous, min_nodes, max_nodes, facts, problems)
    redirects = _streams("logs.redirects", logs["redirects"], workers, problems)
    tee = _streams("logs.tee", logs["tee"], workers, problems)
    cpus = cpus_of(demand, facts, parallel, settings["resources"]["jobs_per_gpu"])
    threads = threads_of(settings["omp_num_threads"], workers, facts.within_quota(cpus), environ, problems)
    if settings["omp_num_threads"] == "auto" and settings["numa"]["cpus"] != Cpus.none:
        threads = None  # they follow from what each worker is bound to
    options = _torch_options(settings, facts, problems)
    retry = retry_of(settings["retry"], problems)
    watch = watch_of(settings["watch"], retry, problems)
    problems.raise_any()
    ranks = logs["local_ranks_filter"]
    return Launch(
        min_nodes=min_nodes,
        max_nodes=max_nodes,
        nproc_per_node=workers,
        start_method=settings["start_method"],
        role=settings["role"],
        backend=backend,
        endpoint=endpoint,
        rdzv_configs=configs,
        rendezvous_id=rendezvous["id"],
        local_addr=rendezvous["local_addr"],
        retry=retry,
        watch=watch,
        monitor_interval=settings["monitor_interval"],
        signals_to_handle=tuple(settings["signals_to_handle"]),
        checkpoint_timeout=settings["checkpoint_timeout"],
        shutdown_timeout=settings["shutdown_timeout"],
        exit_barrier_timeout=settings["exit_barrier_timeout"],
        event_log_handler=settings["event_log_handler"],
        return_values=settings["return_values"],
        omp_num_threads=threads,
        demand=demand,
        gpus_per_worker=gpus_per_worker_of(settings["resources"]),
        numa=NumaConfig(**settings["numa"]),
        log_dir=logs["dir"],
        redirects=redirects,
        tee=tee,
        local_ranks_filter=None if ranks is None else tuple(ranks),
        line_prefix=_line_prefix(logs["line_prefix"], tee, workers, str(settings["role"])),
        other_ranks_level=str(logs["other_ranks_level"]).upper(),
        whole_sweep=whole_sweep_of(settings),
        torch_options=options,
    )


# --- single values ----------------------------------------------------------------------------------------------


def _check_values(settings: Mapping[str, Any], facts: HostFacts, problems: Problems) -> None:
    check_whole_sweep(whole_sweep_of(settings), problems)
    problems.one_of("return_values", settings["return_values"], ("rank0", "all"))
    problems.one_of("event_log_handler", settings["event_log_handler"], sorted(facts.event_handlers))
    problems.one_of("logs.other_ranks_level", str(settings["logs"]["other_ranks_level"]).upper(), LEVELS)
    problems.require(bool(settings["role"]), "role", settings["role"], "must not be empty")
    interval = settings["monitor_interval"]
    problems.require(interval > 0, "monitor_interval", interval, "must be more than 0 (seconds)")
    for key in ("checkpoint_timeout", "shutdown_timeout", "exit_barrier_timeout"):
        problems.require(settings[key] >= 0, key, settings[key], "must be 0 or more (seconds)")
    for key in ("rendezvous.id", "rendezvous.local_addr", "logs.dir"):
        value = value_at(settings, key)
        problems.require(value is None or value.strip(), key, "''", "must not be empty; null is the default")
    for rank in settings["logs"]["local_ranks_filter"] or ():
        problems.require(rank >= 0, "logs.local_ranks_filter", rank, "must be local ranks, 0 or more")


def _nodes(value: Any, problems: Problems) -> tuple[int, int]:
    match = re.fullmatch(r"(-?[0-9]{1,9})(?::(-?[0-9]{1,9}))?", str(value).strip())
    if match is None or isinstance(value, bool):
        problems.add("nodes", value, "must be a number, or 'MIN:MAX'; in YAML with quotes")
        return 1, 1
    low = int(match[1])
    high = int(match[2] or low)
    if not 1 <= low <= high:
        problems.add("nodes", value, "must be 1 or more, and MIN not more than MAX")
        return 1, 1
    return low, high


def _streams(key: str, value: Any, workers: int, problems: Problems) -> int | dict[int, int]:
    """Read `3`, `{0: 3}`, or torchrun's `"0:3,1:1"`."""
    pairs: Any = value
    if isinstance(value, str) and ":" in value:
        pairs = dict(pair.split(":", 1) for pair in value.split(",") if ":" in pair)
    items = list(pairs.items()) if isinstance(pairs, Mapping) else [(0, pairs)]
    try:
        read = {int(rank): int(streams) for rank, streams in items}
    except (TypeError, ValueError):
        read = {-1: -1}
    if any(rank < 0 or not 0 <= streams <= 3 for rank, streams in read.items()):
        unquoted = sexagesimal(value)
        hint = f'; YAML reads an unquoted {unquoted} as {value}: write "{unquoted}"' if unquoted else ""
        what = "must be 0 (nothing), 1 (stdout), 2 (stderr) or 3 (both), or {local rank: number}"
        problems.add(key, value, what + hint)
        return 0
    return read if isinstance(pairs, Mapping) else read[0]


def _line_prefix(value: str | None, tee: int | dict[int, int], workers: int, role: str) -> str:
    """Say what teed lines begin with: with the output of one job and rank only, it would only break progress bars."""
    if value is not None:
        return value
    teed = [rank for rank in range(workers) if (tee.get(rank, 0) if isinstance(tee, dict) else tee)]
    of_role = "" if role == "default" else " ${role_name}"
    return "${job}" + (f"{of_role} rank ${{rank}}: " if len(teed) > 1 else ": ")


def _torch_options(settings: Mapping[str, Any], facts: HostFacts, problems: Problems) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for key, since in _SINCE.items():
        group, _, name = key.rpartition(".")
        value = value_at(settings, key)
        default = getattr(ElasticConfig(), name) if not group else []
        if facts.torch >= since:
            options[name] = value
        elif value != default:
            problems.add(
                key,
                value,
                f"needs torch {since[0]}.{since[1]} or newer; {facts.torch[0]}.{facts.torch[1]} is installed",
            )
    return options
