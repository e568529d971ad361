"""From a job's `hydra.launcher` and the host to what is launched: every check, and every computed default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elastic_hydra.compat.versions import lack_of_torch
from elastic_hydra.config.debug import check_debug, check_inline, rank_of, undisturbed, without
from elastic_hydra.config.environment import with_environment
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.gangs import rendezvous_of_gang
from elastic_hydra.config.hosts import LOCAL, check_nodes_on_hosts
from elastic_hydra.config.logs import Streams, check_logs, line_prefix_of, streams_of
from elastic_hydra.config.nodes import Nodes, nodes_of
from elastic_hydra.config.numa import Cpus, check_numa
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.rendezvous import Rendezvous, rendezvous_of
from elastic_hydra.config.resources import (
    Demand,
    cpus_of,
    demand_of,
    gpus_per_worker_of,
    read_parallel,
    threads_of,
    workers_of,
)
from elastic_hydra.config.retry import check_retry
from elastic_hydra.config.schema import INLINE, ElasticConfig
from elastic_hydra.config.tree import as_schema, check_tree
from elastic_hydra.config.values import value_at
from elastic_hydra.config.watch import check_watch
from elastic_hydra.config.whole_sweep import check_whole_sweep, whole_sweep_of

__all__ = ["Launch", "resolve"]

_NOT_IN_EVERY_TORCH = ("virtual_local_rank", "logs.duplicate_stdout_filters", "logs.duplicate_stderr_filters")
"""Keys that the oldest supported torch has no option for."""


@dataclass(frozen=True)
class Launch:
    """One job, ready to launch: its keys, all checked, and what is computed from them and from the host."""

    keys: ElasticConfig
    nodes: Nodes
    nproc_per_node: int
    rendezvous: Rendezvous
    demand: Demand
    gpus_per_worker: int
    """How many GPUs belong to each worker, 1 or more."""
    omp_num_threads: int | None
    """`OMP_NUM_THREADS` of each worker; None: the variable is left alone."""
    redirects: Streams
    tee: Streams
    line_prefix: str
    whole_sweep: dict[str, Any] = field(default_factory=dict)
    """The values in this job's configuration of the keys that hold for the whole sweep."""

    about_nodes: str = ""
    """In one line, what the environment says of the nodes; empty: nothing that people should know."""

    @property
    def several_nodes(self) -> bool:
        """Whether the job may have more than one node."""
        return self.nodes.most > 1

    @property
    def is_gang(self) -> bool:
        """Whether it has several nodes, and one launcher starts all of them."""
        return self.several_nodes and self.keys.hosts.engine != LOCAL

    @property
    def launcher_per_node(self) -> bool:
        """Whether it may have several nodes, and each of them has a launcher of its own."""
        return self.several_nodes and not self.is_gang


def resolve(settings: Mapping[str, Any], facts: HostFacts, environ: Mapping[str, str]) -> Launch:
    """Check a job's settings and compute what they leave open.

    Args:
        settings: the job's `hydra.launcher`, interpolations resolved.
        facts: this host.
        environ: the environment variables of this process.

    Returns:
        what to launch.

    Raises:
        ConfigError: something is wrong; the text lists every problem.
    """
    problems = Problems()
    check_tree(settings, ElasticConfig, problems)
    problems.raise_any()
    keys, about_nodes = with_environment(as_schema(ElasticConfig, settings), environ, problems)

    nodes = nodes_of(keys.nodes, problems)
    parallel = read_parallel(keys.parallel, Problems())  # `check_whole_sweep` says what is wrong with `parallel`
    workers = workers_of(keys.nproc_per_node, facts, parallel, problems)
    check_numa(keys.numa, problems)
    is_gang = nodes.most > 1 and keys.hosts.engine != LOCAL
    demand = demand_of(keys.resources, keys.numa, workers, parallel, facts, problems)
    demand = dataclasses.replace(demand, nodes=nodes.least) if is_gang else demand
    check_whole_sweep(whole_sweep_of(settings), problems)
    _check_job(keys, facts, problems)
    meeting = rendezvous_of_gang if is_gang else rendezvous_of
    rendezvous = meeting(keys.rendezvous, nodes, facts, problems)
    check_logs(keys.logs, problems)
    redirects = streams_of("logs.redirects", keys.logs.redirects, problems)
    tee = streams_of("logs.tee", keys.logs.tee, problems)
    cpus = cpus_of(demand, facts, parallel, keys.resources.jobs_per_gpu)
    threads = threads_of(keys.omp_num_threads, workers, facts.within_quota(cpus), environ, problems)
    if keys.omp_num_threads == "auto" and keys.numa.cpus != Cpus.none:
        threads = None  # each worker's number of threads follows from the CPUs that it is bound to
    _check_versions(settings, facts, problems)
    check_retry(keys.retry, problems)
    check_watch(keys.watch, keys.retry, problems)
    check_debug(keys, nodes, workers, parallel, problems)
    check_inline(keys, nodes, workers, parallel, problems)
    check_nodes_on_hosts(keys.hosts.engine, keys.nodes, problems)
    problems.raise_any()
    if keys.debug is not None or keys.start_method == INLINE:
        keys = undisturbed(keys)
    if (debugged := rank_of(keys.debug)) is not None:
        redirects, tee = without(debugged, redirects, workers), without(debugged, tee, workers)
    return Launch(
        keys=keys,
        nodes=nodes,
        nproc_per_node=workers,
        rendezvous=rendezvous,
        demand=demand,
        gpus_per_worker=gpus_per_worker_of(keys.resources),
        omp_num_threads=threads,
        redirects=redirects,
        tee=tee,
        line_prefix=line_prefix_of(keys.logs.line_prefix, tee, workers, keys.role),
        whole_sweep=whole_sweep_of(settings),
        about_nodes=about_nodes,
    )


def _check_job(keys: ElasticConfig, facts: HostFacts, problems: Problems) -> None:
    """Check the keys of a job that are in no group."""
    problems.one_of("return_values", keys.return_values, ("rank0", "all"))
    problems.one_of("event_log_handler", keys.event_log_handler, sorted(facts.event_handlers))
    problems.require(bool(keys.role), "role", keys.role, "must not be empty")
    problems.require(
        keys.monitor_interval > 0, "monitor_interval", keys.monitor_interval, "must be more than 0 (seconds)"
    )
    for key in ("checkpoint_timeout", "shutdown_timeout", "exit_barrier_timeout"):
        problems.at_least(0, key, getattr(keys, key), " (seconds)")


def _check_versions(settings: Mapping[str, Any], facts: HostFacts, problems: Problems) -> None:
    """Refuse keys that the installed torch would not understand, unless they have their defaults."""
    for key in _NOT_IN_EVERY_TORCH:
        lack = lack_of_torch(key.rpartition(".")[2], facts.torch)
        if not lack:
            continue
        value, default = value_at(settings, key), value_at(dataclasses.asdict(ElasticConfig()), key)
        if value != default:
            problems.add(key, value, lack)
