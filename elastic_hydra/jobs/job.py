"""One job of a sweep: what it is (`Job`), and how one try at it goes (`Attempt`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from elastic_hydra import timeouts
from elastic_hydra.config.resolve import Launch
from elastic_hydra.numa.allowance import Allowance

__all__ = ["Attempt", "GangNode", "Job", "env_set_of"]


@dataclass(frozen=True)
class Job:
    """What is to be run: composed and checked, and the same in each attempt."""

    num: int
    overrides: list[str]
    config: DictConfig
    """All of it, with Hydra's part."""
    launch: Launch
    output_dir: Path
    run_id: str
    """Names its rendezvous: unlike that of any other job on one node, the same in all launchers on several nodes."""
    single: bool = False
    """Whether it is a run without `-m`, and no job of a sweep."""

    @property
    def env_set(self) -> dict[str, str]:
        """Environment variables that it sets."""
        return env_set_of(self.config)

    @property
    def dir_keys(self) -> tuple[str, str | None]:
        """The keys in which Hydra's `run_job` finds its output directory."""
        return ("hydra.runtime.output_dir", None) if self.single else ("hydra.sweep.dir", "hydra.sweep.subdir")

    @property
    def log_dir(self) -> Path:
        """Where its workers write."""
        return self.output_dir / (self.launch.keys.logs.dir or "logs")


@dataclass(frozen=True)
class GangNode:
    """Which node of a job of several nodes an agent is, and where it meets those of the other nodes."""

    rank: int
    endpoint: str
    """`HOST:PORT` of the store; empty: this agent is to open it, and to say where it is."""
    run_id: str
    """Names the rendezvous, unlike that of any other attempt."""
    first_restart: int
    """Number of the first folder in the job's `log_dir` that its workers write into."""
    others: tuple[str, ...] = ()
    """Names and addresses towards which the other agents are; some may mean nothing on this host."""


@dataclass(eq=False)
class Attempt:
    """How one try at a job goes; the launcher makes it and sends it to the agent.

    All times are seconds on the monotonic clock, which all processes of a host share.
    """

    job: Job
    number: int = 0
    """How many attempts came before."""
    not_before: float = 0.0
    """When it may start."""
    began: float | None = None
    """When the first attempt at this job was started; None: none was."""
    allowance: Allowance | None = None
    """The CPUs and memory nodes that it holds; None: all that the launcher may use."""
    label: str = ""
    """What tells its lines on the console from those of other jobs, as `#3`; empty: it runs alone."""
    stdin: bool = False
    """Whether rank 0 has the launcher's standard input, as no other job runs beside it."""
    terminal: str = ""
    """Where the launcher's terminal can be opened, as somebody debugs what fails; empty: nobody does."""
    foreground: str = ""
    """By which the worker that has the terminal gets Ctrl-C, as somebody debugs it; empty: nobody does."""
    journal_path: Path | None = None
    """Where its agent records its restarts."""
    journal_start: int = 0
    """Where in the journal the lines of this job begin, in bytes."""
    restarts: tuple[float, ...] = ()
    """When its workers were restarted, in all attempts so far; only restarts that count."""
    node: GangNode | None = None
    """Which one this agent is of several that one launcher has started; None: there is one."""

    @property
    def is_first_node(self) -> bool:
        """Whether the agent speaks for the job: it alone writes what a job has once, and calls the callbacks."""
        return self.node is None or self.node.rank == 0

    def age(self, now: float) -> float:
        """Return the seconds since the first attempt at this job was started."""
        return 0.0 if self.began is None else now - self.began

    @property
    def deadline(self) -> float | None:
        """When its agent must have ended the job, and itself; None: there is no limit."""
        launch = self.job.launch
        limit = launch.keys.watch.time_limit
        if limit is None or self.began is None:
            return None
        return self.began + timeouts.end_of_job(limit, launch.keys.shutdown_timeout)

    def following(self, restarts: tuple[float, ...], not_before: float) -> Attempt:
        """Return the attempt that comes after this one.

        Args:
            restarts: of the workers, in all attempts so far.
            not_before: when it may start.
        """
        return replace(self, number=self.number + 1, restarts=restarts, not_before=not_before)


def env_set_of(config: DictConfig) -> dict[str, str]:
    """Return the environment variables that a job sets: its `hydra.job.env_set`, as texts.

    Args:
        config: of the job, with Hydra's part.
    """
    return {str(name): str(value) for name, value in config.hydra.job.env_set.items()}
