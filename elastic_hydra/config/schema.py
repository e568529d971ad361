"""Every key of `hydra.launcher`, with its type, unit and default; those of a group stand in the module of the group."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from typing import Any, List, Optional

from elastic_hydra.config.detach import SbatchConfig
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.logs import LogsConfig
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.rendezvous import RendezvousConfig
from elastic_hydra.config.resources import ResourcesConfig
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.watch import WatchConfig

__all__ = ["INLINE", "START_METHODS", "ElasticConfig"]


START_METHODS = ("warm", "fork", "forkserver", "spawn")
"""How workers may start that are processes of their own."""
INLINE = "inline"
"""The one worker of a job is the launcher's own process."""


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
    `spawn`. With `inline` the job's one worker is the launcher's own process, for a debugger that follows no other."""
    preload: List[str] = field(default_factory=list)
    """Modules that are imported once, before the first worker starts, for all workers: `[transformers]`. What an app
    imports itself is there anyway; it is for what scripts, or the task function, import late."""
    parallel: Any = 1
    """Jobs that run side by side on each host: a number, or `auto` (as many as `resources` lets fit). Each gets GPUs,
    CPUs and thread counts of its own; with 1 a job has all of the host."""
    stagger: float = 0.0
    """Seconds between the starts of two jobs."""
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    on_failure: str = "continue"
    """When a job has failed: `continue` with the others, or `stop`: start no more. Jobs that run are left to end."""
    max_failures: Any = None
    """How many jobs may fail before no more are started: a number, a fraction of the batch (`0.1`), or null (any)."""
    debug: Optional[str] = None
    """Who has the terminal, for a debugger: `rank0` or another rank, as long as the job runs; or `post_mortem`: the
    rank that fails first, where it has failed. Meanwhile no limit of `watch` holds, torch's process groups wait for
    days, and nothing is tried again. null: nobody."""
    live: bool = True
    """Whether the running jobs are shown at the bottom of the terminal while the sweep runs. Where the output is no
    terminal, where `TERM` is `dumb`, and where `CI` is set, there are plain lines all the same."""
    dry_run: bool = False
    """Compose and check all jobs, show what would be launched, and launch nothing."""
    detach: Any = False
    """Whether the command returns when the sweep has begun, and the launcher goes on without the terminal: `local` (on
    this machine), `slurm` (as a Slurm job, see `sbatch`), or `true`, which is `slurm` where hosts are Slurm's, and else
    `local`."""
    resume: Any = False
    """With the `hydra.sweep.dir` of an earlier sweep: `true` runs what has not finished, and returns the recorded
    values of what has; `failed` and `interrupted` run only those; `all` runs everything again."""
    requeue: str = "never"
    """With `auto`, a launcher in a batch job of Slurm that must stop before its sweep is done, at the time limit or for
    a preemption, puts the job back into the queue where Slurm would not, and goes on when it starts again. A job that
    was cancelled, or whose jobs have failed, stays ended. With `never`, it is left to Slurm and to the batch script."""
    requeue_limit: Optional[int] = 3
    """After so many lives of the Slurm job in a row in which no job has finished or written a file into its directory,
    it is not put back; null: it always is."""
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
    hosts: HostsConfig = field(default_factory=HostsConfig)
    sbatch: SbatchConfig = field(default_factory=SbatchConfig)
    rendezvous: RendezvousConfig = field(default_factory=RendezvousConfig)
    numa: NumaConfig = field(default_factory=NumaConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    logs: LogsConfig = field(default_factory=LogsConfig)
