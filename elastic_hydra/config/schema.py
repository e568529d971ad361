"""Every key of `hydra.launcher`, with its type, unit and default."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.retry import RetryConfig, WatchConfig

__all__ = [
    "START_METHODS",
    "ElasticConfig",
    "LogsConfig",
    "RendezvousConfig",
    "ResourcesConfig",
    "RetryConfig",
    "WatchConfig",
]


START_METHODS = ("warm", "fork", "forkserver", "spawn")


@names_its_keys
@dataclass
class RendezvousConfig:
    """Where the nodes of a job meet: `hydra/launcher/rendezvous=local|c10d|static|etcd`."""

    backend: str = "local"
    """`local` (one node), `c10d`, `static`, `etcd`, `etcd-v2`, or any name registered with torch."""
    endpoint: str = ""
    """`host:port` where nodes meet; `static`: of node 0. Not needed on one node."""
    id: Optional[str] = None
    """Name of the sweep for its nodes, the same on all of them; null: made from the application and its overrides."""
    node_rank: Optional[int] = None
    """`static`: which node this is, from 0."""
    local_addr: Optional[str] = None
    """Address under which the other nodes reach this one; null: that of the way to the endpoint."""
    is_host: Optional[bool] = None
    """`c10d`: whether this node hosts the store; null: the one whose name or address the endpoint has."""
    join_timeout: Optional[int] = None
    """Seconds within which the minimum of nodes must be there; null: torch's default."""
    last_call_timeout: Optional[int] = None
    """Seconds to wait for more nodes when the minimum is there (`c10d`, `etcd`, `etcd-v2`)."""
    close_timeout: Optional[int] = None
    """Seconds within which closing must be done (`c10d`, `etcd-v2`)."""
    heartbeat_timeout: Optional[int] = None
    """Seconds within which one keep-alive must be done (`c10d`, `etcd-v2`)."""
    keep_alive_interval: Optional[int] = None
    """Seconds between keep-alives (`c10d`, `etcd-v2`)."""
    keep_alive_max_attempt: Optional[int] = None
    """Missed keep-alives after which a node counts as dead (`c10d`, `etcd-v2`)."""
    read_timeout: Optional[int] = None
    """Seconds that one operation of the store may take (`c10d`, `etcd-v2`)."""
    configs: Dict[str, Any] = field(default_factory=dict)
    """Anything else for the backend (`--rdzv-conf`); a new key needs `+`."""


@names_its_keys
@dataclass
class LogsConfig:
    """Where workers write: `hydra/launcher/logs=files|console|all`."""

    dir: Optional[str] = None
    """Folder for the workers' files; null: `logs` in the job's output directory. Relative to that directory."""
    redirects: Any = 3
    """Streams that go to files: 0 none, 1 stdout, 2 stderr, 3 both; or by local rank, `{0: 1, 1: 3}` or `"0:1,1:3"`."""
    tee: Any = "0:3"
    """Streams that go to files and to the console, likewise. Default: both of local rank 0."""
    local_ranks_filter: Optional[List[int]] = None
    """Local ranks whose output may reach the console; null: all."""
    duplicate_stdout_filters: List[str] = field(default_factory=list)
    """Lines of teed stdout that contain one of these also go to `filtered_stdout.log`."""
    duplicate_stderr_filters: List[str] = field(default_factory=list)
    """Lines of teed stderr that contain one of these also go to `filtered_stderr.log`."""
    line_prefix: Optional[str] = None
    """What each teed line begins with; knows `${job}`, `${role_name}`, `${rank}`, `${local_rank}` (escape as
    `\\${rank}`). null: `#3` where several jobs run at once, `rank 1` where several ranks are teed, or both; the empty
    string: nothing."""
    other_ranks_level: str = "OFF"
    """Level from which log records of ranks other than 0 go to their console, or to the file that stands for it:
    `DEBUG` … `CRITICAL`, or `OFF`. Their own log files get everything."""


@names_its_keys
@dataclass
class ResourcesConfig:
    """What one job takes of this host, so that others can run beside it: `hydra.launcher.resources`."""

    gpus_per_worker: Any = "auto"
    """GPUs per worker: a number, 0 or more, or `auto` (1 where there are GPUs). Worker i has the i-th so many."""
    cpus_per_worker: Any = "auto"
    """CPUs (hardware threads) per worker: a number, 1 or more, or `auto` (an equal share of the host for each of
    `parallel` jobs; with `parallel=auto` the cores that belong to the job's GPUs, or 1). Workers without a GPU that
    have `numa.cores_per_worker`, or a node each (`numa=cpu-throughput` with `parallel=auto`), take that of one NUMA
    node."""
    memory_per_job: Optional[str] = None
    """Memory that a job needs, as `16GB`; null: it is not counted."""
    jobs_per_gpu: int = 1
    """How many jobs may share a GPU."""
    gpu_memory_wait: float = 10.0
    """Seconds that a GPU stays empty at most until the memory of the job that has ended there is free again; 0: the
    next job starts at once. A GPU that several jobs share is not waited for."""


@names_its_keys
@dataclass
class ElasticConfig:
    """`hydra/launcher=elastic`: how each job of a sweep is launched."""

    _target_: str = "hydra_plugins.elastic_hydra_launcher.launcher.ElasticLauncher"
    nodes: Any = 1
    """Nodes per job: a number, or `"MIN:MAX"` for a group that may grow and shrink."""
    nproc_per_node: Any = "auto"
    """Workers per node: a number, `gpu` (one per visible GPU), `cpu` (one per CPU), or `auto` (one per visible GPU,
    else one)."""
    start_method: str = "warm"
    """How workers start: `warm` (forked, with everything imported, where that is safe), `fork`, `forkserver` or
    `spawn`."""
    parallel: Any = 1
    """Jobs that run side by side on this host: a number, or `auto` (as many as `resources` lets fit). Each gets GPUs,
    CPUs and thread counts of its own; with 1 a job has all of the host."""
    stagger: float = 0.0
    """Seconds between the starts of two jobs."""
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    on_failure: str = "continue"
    """When a job has failed: `continue` with the others, or `stop`: start no more. What runs is left to end."""
    max_failures: Any = None
    """How many jobs may fail before no more are started: a number, a fraction of the batch (`0.1`), or null (any)."""
    dry_run: bool = False
    """Compose and check all jobs, show what would be launched, and launch nothing."""
    resume: Any = False
    """With the `hydra.sweep.dir` of an earlier sweep: `true` runs what has not finished, and returns the recorded
    values of what has; `failed` and `interrupted` run only those; `all` runs everything again."""
    monitor_interval: float = 0.1
    """Seconds between looks for nodes that wait to join; workers' ends are seen at once."""
    role: str = "default"
    """Name of the workers in logs, metrics and `ROLE_NAME`."""
    return_values: str = "rank0"
    """The job's return value: `rank0` (what rank 0 returned) or `all` (`{rank: value}` of this node)."""
    signals_to_handle: List[str] = field(
        default_factory=lambda: ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"]
    )
    """Signals to the launcher, or to the agent of one job, that stop the sweep or that job: its workers get the same
    one."""
    checkpoint_timeout: int = 30
    """Seconds that workers have after SIGUSR1, SIGUSR2 or another signal that only announces the end, to write a
    checkpoint and end by themselves; then they get SIGTERM."""
    shutdown_timeout: int = 30
    """Seconds between SIGTERM (SIGINT, SIGHUP, SIGQUIT) and SIGKILL, wherever workers are stopped."""
    exit_barrier_timeout: float = 300.0
    """Seconds that a node whose workers have finished waits for the other nodes."""
    virtual_local_rank: bool = False
    """Whether each worker sees one GPU only, as number 0, with `LOCAL_RANK=0` (torch 2.10 and newer)."""
    event_log_handler: str = "null"
    """Where torch records events: `null`, `console`, or a handler registered with torch."""
    omp_num_threads: Any = "auto"
    """`OMP_NUM_THREADS` of each worker: a number, `auto` (the job's CPUs, within its container's quota, divided by its
    workers; for bound workers what `numa.threads` says), or null (leave it). The environment's own wins over `auto`."""
    rendezvous: RendezvousConfig = field(default_factory=RendezvousConfig)
    numa: NumaConfig = field(default_factory=NumaConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    logs: LogsConfig = field(default_factory=LogsConfig)
