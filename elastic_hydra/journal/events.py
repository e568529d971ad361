"""What a journal says: one dataclass for each event, whose fields are those of the event's line.

Events and fields may be added: readers pass over those that they do not know. Whoever changes what a field means, or
removes one, raises the first number of `VERSION`; whoever adds something raises the second one.

Nobody changes an event. All the same the classes are not frozen: many thousands of events are made to show a large
sweep, and frozen ones take four times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time as now
from typing import Any, Literal, TypeAlias

__all__ = [
    "EVENTS",
    "VERSION",
    "AttemptLost",
    "AttemptStarted",
    "BatchBegan",
    "Event",
    "FailedWorker",
    "HostJoined",
    "HostLeft",
    "HostLost",
    "HostsPending",
    "JobComposed",
    "JobEnded",
    "JobsLeftOut",
    "LauncherSubmitted",
    "RequeueAsked",
    "StacksWritten",
    "StartsHeldUp",
    "State",
    "StopAsked",
    "StoreOpened",
    "SweepBegan",
    "SweepStopped",
    "WorkersBound",
    "WorkersFailed",
    "WorkersStarted",
]

VERSION = "1.4"
"""Of the format that is written: MAJOR.MINOR."""

State: TypeAlias = Literal["finished", "failed", "interrupted", "preempted"]


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that has happened in a sweep."""

    time: float = field(default_factory=lambda: round(now(), 3))
    """When it happened, in seconds since the epoch; 0 when the line does not say it."""


@dataclass(slots=True, kw_only=True)
class SweepBegan(Event):
    """A launcher has begun, for a new sweep or to resume one."""

    version: str = VERSION
    """Of the format, as `MAJOR.MINOR`. Journals from before it was written have `v` (1) in each line instead."""
    pid: int | None = None
    """Process id of the launcher."""
    host: str = ""
    """Name of the host on which the launcher runs."""
    task: str | None = None
    """Name of the app: `hydra.job.name`."""
    command: Sequence[str] = ()
    """The launcher's command line."""
    program: Sequence[str] = ()
    """The first part of `command`, without the arguments of the app; empty: Python code or a notebook has started the
    sweep, so that no command resumes it."""
    sweeper: str = ""
    """The class of Hydra's sweeper: `hydra.sweeper._target_`."""
    cwd: str | None = None
    """The launcher's working directory."""
    dir: str | None = None
    """The sweep's directory."""
    control: str = ""
    """Name of the launcher's control socket, in the abstract namespace of Linux; empty: the launcher has none."""
    resume: bool = False
    """Whether the sweep goes on. If not, the lines before this one are about another sweep."""
    single: bool = False
    """Whether it is a run without `-m`: its one job writes into this same directory, which is `hydra.run.dir`."""
    slurm_job: str = ""
    """Id of the Slurm job that the launcher runs in, and puts back into the queue if need be; empty: it does not."""
    output: str = ""
    """The file that has the output of a launcher that was detached from its terminal; empty: it was not."""
    maximize: bool | None = None
    """Whether larger values are better; absent: the sweeper does not say what is better."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and of the packages that matter, by their names."""
    cpus: int | None = None
    """How many CPUs the launcher may use."""
    memory: int | None = None
    """How many bytes of memory it may use."""
    gpu_names: Sequence[str] = ()
    """The models of the GPUs that it sees; empty texts where the driver does not say them."""


@dataclass(slots=True, kw_only=True)
class LauncherSubmitted(Event):
    """A launcher was submitted as a Slurm job. When it begins there, it writes a `sweep` line of its own."""

    slurm_job: str
    """Id of the job."""
    host: str = ""
    """Name of the host where it was submitted."""
    command: Sequence[str] = ()
    """The launcher's command line."""
    program: Sequence[str] = ()
    """The first part of `command`, without the arguments of the app."""
    cwd: str | None = None
    """The launcher's working directory."""
    dir: str | None = None
    """The sweep's directory."""
    single: bool = False
    """Whether it is a run without `-m`."""
    output: str = ""
    """The file that has the output of the launcher."""


@dataclass(slots=True, kw_only=True)
class BatchBegan(Event):
    """The sweeper has handed jobs over to the launcher: all of them or, if it is an adaptive one, some."""

    jobs: int
    """How many of them are not recorded yet. Each gets a `job` line when it is composed."""
    parallel: str = ""
    """How many jobs run at once: `hydra.launcher.parallel`."""


@dataclass(slots=True, kw_only=True)
class JobComposed(Event):
    """The configuration of a job was composed; the job waits to run."""

    num: int
    """The job: `hydra.job.num`."""
    overrides: Sequence[str]
    """The job's overrides, in the order in which the sweeper gave them."""
    config: str
    """The task's configuration as YAML, without Hydra's part and with its interpolations."""
    dir: str
    """The job's output directory."""
    log_dir: str | None = None
    """Where the job's workers write: folders `restart_0`, `restart_1`, …; absent: `logs` in `dir`."""
    needs: str = ""
    """What the job needs of a host, in words; empty: no particular part of it."""
    duration: float | None = None
    """Seconds for which its host must still be there: `resources.duration`; absent: any time is enough."""


@dataclass(slots=True, kw_only=True)
class AttemptStarted(Event):
    """The agents of a job were started, one for each of its nodes, for the first or for another attempt."""

    num: int
    """The job."""
    attempt: int
    """Which attempt it is; the first one is 0."""
    gpus: Sequence[int] = ()
    """The GPUs that the job holds, counted among those that the launcher sees; empty: all of these."""
    cpus: Sequence[int] = ()
    """The CPUs that the job holds; empty: all that the launcher may use."""
    host: str = ""
    """Name of the host on which it runs; empty: the launcher's own."""
    first_restart: int | None = None
    """The number of the first folder in `log_dir` that the workers of this attempt write into."""
    nodes: Sequence[Mapping[str, Any]] | None = None
    """Of a job of several nodes that one launcher has started: the `host`, `gpus` and `cpus` of each node, in the order
    of node ranks; the fields above are those of node 0. Absent: the job runs on one host."""

    def held(self) -> dict[str, tuple[Sequence[int], Sequence[int]]]:
        """Return the GPUs and CPUs that the job holds, by host."""
        if self.nodes is None:
            return {self.host: (self.gpus, self.cpus)}
        return {str(node.get("host", "")): (node.get("gpus", ()), node.get("cpus", ())) for node in self.nodes}


@dataclass(slots=True, kw_only=True)
class HostJoined(Event):
    """Another host than the launcher's is there, was examined, and can run jobs."""

    host: str
    """Its name."""
    cpus: int | None = None
    """How many CPUs jobs may use there."""
    gpus: int | None = None
    """How many GPUs there are."""
    memory: int | None = None
    """How many bytes of memory jobs may use there."""
    ends: float | None = None
    """When it will not be there any more, in seconds since the epoch: at its time limit; absent: it has none."""


@dataclass(slots=True, kw_only=True)
class HostsPending(Event):
    """Hosts were asked for and wait in the queue of Slurm; all of them, whenever something has changed."""

    hosts: Sequence[Mapping[str, Any]] = ()
    """For each, the id of its `job`, the `reason` in Slurm's words, and when it is expected to come: `starts`, in
    seconds since the epoch, or null. Empty: none waits any more."""


@dataclass(slots=True, kw_only=True)
class HostLeft(Event):
    """The launcher has let a host go; nothing of the sweep runs there any more."""

    host: str
    """Its name."""
    reason: str = ""
    """Why: it had nothing to do, was told to stop, or is not fit for jobs."""


@dataclass(slots=True, kw_only=True)
class HostLost(Event):
    """A host is gone with all that ran there, and it is certain that nothing of that runs any more."""

    host: str
    """Its name."""
    reason: str = ""
    """What has happened, in one line."""


@dataclass(slots=True, kw_only=True)
class WorkersStarted(Event):
    """The first worker of a job on this node calls the task function, or all run the program: they were started, or
    restarted."""

    num: int
    """The job."""
    attempt: int = 0
    """In which attempt; the first one is 0."""


@dataclass(slots=True, kw_only=True)
class FailedWorker:
    """The worker that failed first, and how."""

    kind: str
    """What kind of failure it is, in the words of `hydra.launcher.retry.only_on`."""
    reason: str = ""
    """What has happened, in one line."""
    rank: int | None = None
    """The worker's rank; absent when no worker was the cause."""
    host: str = ""
    """Name of its host."""
    exitcode: int | None = None
    """Its exit code, if it has one."""
    signal: str = ""
    """Name of the signal that killed it; empty when none did."""
    names: Sequence[str] = ()
    """Names of the class of its exception and of that class's bases, nearest first."""
    log_dir: str = ""
    """Where its logs are."""


@dataclass(slots=True, kw_only=True)
class WorkersFailed(Event):
    """The workers of a job have failed, and the agent has decided whether to restart them."""

    num: int
    """The job."""
    attempt: int = 0
    """In which attempt; the first one is 0."""
    monotonic: float | None = None
    """When it was decided, in seconds on the monotonic clock of the agent's machine."""
    again: bool = False
    """Whether the workers are restarted."""
    counts: bool = True
    """Whether the restart is one of `retry.max_restarts`; those after a node's preemption are not."""
    reason: str = ""
    """Why it was so decided."""
    after: float = 0.0
    """Seconds until the restart."""
    failure: FailedWorker | None = None
    """What failed."""


@dataclass(slots=True, kw_only=True)
class WorkersBound(Event):
    """Workers of a job were bound to CPUs and memory. Jobs whose workers are not bound have no such line."""

    num: int
    """The job."""
    attempt: int = 0
    """In which attempt; the first one is 0."""
    workers: Sequence[Mapping[str, Any]] = ()
    """What each worker of this node is bound to, in the order of local ranks, as in `bindings.json`."""


@dataclass(slots=True, kw_only=True)
class StoreOpened(Event):
    """Node 0 of a job of several nodes that one launcher starts has opened the store where the nodes meet."""

    num: int
    """The job."""
    attempt: int
    """In which attempt; the first one is 0."""
    endpoint: str
    """`HOST:PORT` of the store."""


@dataclass(slots=True, kw_only=True)
class StacksWritten(Event):
    """The workers of a job have written their Python stacks, because somebody has asked by `elastic-hydra stacks`."""

    num: int
    """The job."""
    attempt: int = 0
    """In which attempt; the first one is 0."""
    workers: Sequence[Mapping[str, Any]] = ()
    """For each worker of this node that runs, its `rank`, the `file` that has its stacks, and the position in bytes
    where they `start`."""
    node: int = 0
    """Rank of the node, of several on which one launcher has started the job."""
    nodes: int = 1
    """How many such nodes there are: each has a line of its own."""


@dataclass(slots=True, kw_only=True)
class StopAsked(Event):
    """Somebody has asked by `elastic-hydra stop` to stop jobs, or the sweep."""

    by: str
    """Name of the user."""
    reason: str = ""
    """Why, in the user's words; empty: they did not say."""
    nums: Sequence[int] = ()
    """The jobs; empty: the sweep, with all its jobs."""
    left_out: Sequence[int] = ()
    """Those of the jobs that waited: they are not started."""


@dataclass(slots=True, kw_only=True)
class AttemptLost(Event):
    """The agent of a job died or was told to stop, and the job is tried again."""

    num: int
    """The job."""
    attempt: int = 0
    """Which attempt it was; the first one is 0."""
    kind: str = ""
    """What kind of failure it was, in the words of `hydra.launcher.retry.only_on`."""
    reason: str
    """What has happened, in one line."""
    decision: str = ""
    """Why the job is tried again."""
    after: float = 0.0
    """Seconds until the next attempt may start."""


@dataclass(slots=True, kw_only=True)
class StartsHeldUp(Event):
    """Something keeps all jobs from being started, such as a full disk, or does so no more."""

    reason: str = ""
    """What it is; empty: nothing any more."""


@dataclass(slots=True, kw_only=True)
class JobsLeftOut(Event):
    """Jobs are not started: the sweep is given up, but for the jobs that run."""

    nums: Sequence[int]
    """The jobs."""
    reason: str
    """Why, in one line."""


@dataclass(slots=True, kw_only=True)
class JobEnded(Event):
    """A job has ended, and its last attempt with it.

    A job that finished has returned what `value`, `pickle` or `file` says: the first one where JSON says it exactly,
    the last one where it is large. None of the four means `null`.
    """

    num: int
    """The job."""
    state: State
    """`finished`, `failed`, `interrupted` (by Ctrl-C or `elastic-hydra stop`) or `preempted` (by SIGTERM, SIGUSR1 and
    the like, sent to the launcher or to the job's agent)."""
    kind: str = ""
    """What kind of failure it was, in the words of `hydra.launcher.retry.only_on`; empty if it finished."""
    reason: str
    """What has happened, in one line; empty if it finished."""
    decision: str = ""
    """Why neither its workers nor the job are started again; empty if it finished, or if nothing had to be decided."""
    log: str | None = None
    """Where to read on about a failure: a file or a directory."""
    traceback: str | None = None
    """The traceback of the exception because of which the job has failed; a long one is shortened."""
    seconds: float = 0.0
    """How long it took, from the start of its first attempt."""
    attempts: int = 1
    """How many attempts were made."""
    restarts: int = 0
    """How many times its workers were restarted, in all attempts; only restarts that count."""
    value: Any = None
    """What it has returned."""
    pickle: str | None = None
    """A pickle of what it has returned, in base64."""
    file: str | None = None
    """Name of the file in `journal.values` that has a pickle of what it has returned."""
    unrecorded: str | None = None
    """Why what it has returned could not be recorded."""


@dataclass(slots=True, kw_only=True)
class SweepStopped(Event):
    """The launcher ended before the sweep was done."""

    reason: str = ""
    """Name of the signal that ended the launcher, who has asked by `elastic-hydra stop`, or the exception."""


@dataclass(slots=True, kw_only=True)
class RequeueAsked(Event):
    """The launcher, which was told to stop, has asked Slurm to start the job again that it runs in."""

    slurm_job: str
    """The job's id."""
    idle: int = 0
    """In how many lives of the job in a row no job of the sweep has made progress; 0: one has in this life."""
    reason: str = ""
    """Why the launcher had to stop."""


EVENTS: dict[str, type[Event]] = {
    "submitted": LauncherSubmitted,
    "sweep": SweepBegan,
    "batch": BatchBegan,
    "job": JobComposed,
    "host": HostJoined,
    "hosts_pending": HostsPending,
    "host_left": HostLeft,
    "host_lost": HostLost,
    "start": AttemptStarted,
    "workers": WorkersStarted,
    "bindings": WorkersBound,
    "failure": WorkersFailed,
    "store": StoreOpened,
    "stacks": StacksWritten,
    "lost": AttemptLost,
    "held_up": StartsHeldUp,
    "left_out": JobsLeftOut,
    "end": JobEnded,
    "stop_asked": StopAsked,
    "stop": SweepStopped,
    "requeue": RequeueAsked,
}
"""The events, by the word that their lines have as `event`."""
