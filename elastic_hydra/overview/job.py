"""What the journal of a sweep says about one job, for whoever looks at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from elastic_hydra.journal.events import AttemptLost, AttemptStarted, JobComposed, JobEnded, WorkersFailed

__all__ = ["FAILED_STATES", "JobOverview"]

FAILED_STATES = ("failed", "interrupted", "preempted", "lost")
"""The states of jobs that have run and have not finished."""


@dataclass(slots=True, eq=False)
class JobOverview:
    """One job of a sweep, as the events have left it so far. All times are in seconds since the epoch."""

    num: int
    """The job: `hydra.job.num`."""
    overrides: Sequence[str]
    """Without those of Hydra itself."""
    dir: str
    """Its output directory, where that is now."""
    log_dir: str
    """Where its workers write."""
    needs: str = ""
    """What it needs of a host, in words; empty: no particular part of it."""
    duration: float | None = None
    """Seconds for which its host must still be there when it starts; None: any time is enough."""
    state: str = "waiting"
    """`waiting`, `running`, `finished`, `failed`, `interrupted`, `preempted` or `not started`. Where the launcher is
    known to be dead, `SweepOverview.state_of` says `not started` and `lost` instead of the first two."""
    attempt: int = 0
    """The number of its last attempt; the first one is 0."""
    restarts: int = 0
    """How many times its workers were restarted, in all attempts; only restarts that count."""
    started: float | None = None
    """When its first attempt of the last launcher was started; None: it was not."""
    ended: float | None = None
    """When it ended; None: it has not."""
    not_before: float = 0.0
    """When the next attempt or restart may begin; 0: as soon as there is room."""
    host: str = ""
    """The host on which it runs or ran, or those of its nodes, by node rank; empty: the launcher's own."""
    gpus: Sequence[int] = ()
    """The GPUs that it holds or held, counted among those that the launcher sees."""
    cpus: Sequence[int] = ()
    """The CPUs that it holds or held."""
    kind: str = ""
    """What kind of failure the last one was."""
    reason: str = ""
    """Why it ended, or why its last attempt or its workers did, in one line; empty when all is well."""
    decision: str = ""
    """What was decided about its last failure: why it is tried again, or why it is not; empty: nothing had to be."""
    log: str | None = None
    """Where to read on about its failure."""
    failed_rank: int | None = None
    """The rank whose failure was the cause of the last one; None: there was none, or no worker was the cause."""
    first_restarts: dict[int, int] = field(default_factory=dict)
    """The number of the first folder in `log_dir` of each attempt of the last launcher, by the attempt's number."""
    value: Any = None
    """What it has returned, where that is in the journal as JSON."""
    _tell: Callable[[], JobOverview] | None = None
    """Returns the job with all that is recorded of it, if nobody has asked for it yet."""

    @classmethod
    def composed(cls, event: JobComposed, place_now: Callable[[str], str]) -> JobOverview:
        """Return a job that waits.

        Args:
            event: says that it was composed.
            place_now: returns where a recorded directory is now.
        """
        folder = place_now(event.dir)
        log_dir = f"{folder}/logs" if event.log_dir is None else place_now(event.log_dir)
        return cls(event.num, _of_task(event.overrides), folder, log_dir, event.needs, event.duration)

    @classmethod
    def untold(cls, num: int, overrides: Sequence[str], tell: Callable[[], JobOverview]) -> JobOverview:
        """Return a job that waits. All else is noted when somebody asks for it: few jobs of a large sweep are shown.

        Args:
            num: the job.
            overrides: in the order in which the sweeper gave them.
            tell: returns the job with all that is recorded of it.
        """
        job = cls.__new__(cls)
        job.num, job.overrides, job.state, job.ended, job._tell = num, _of_task(overrides), "waiting", None, tell
        return job

    def be_told(self) -> None:
        """Note what is recorded of it, if that is still to be done."""
        if self._tell is not None:
            job = self._tell()
            for name in self.__slots__:
                setattr(self, name, getattr(job, name))

    if not TYPE_CHECKING:  # mypy would take any name for that of a field

        def __getattr__(self, name: str) -> Any:
            """Return what is not noted yet."""
            if name not in self.__slots__:
                raise AttributeError(name)
            self.be_told()
            return object.__getattribute__(self, name)

    def seconds(self, now: float) -> float:
        """Return how long it has taken, until it ended or until now; 0 when it was not started."""
        if self.started is None:
            return 0.0
        return max(0.0, (now if self.ended is None else self.ended) - self.started)

    def start(self, event: AttemptStarted) -> None:
        """Note that an attempt has begun."""
        if event.attempt == 0 or self.started is None:
            self.started, self.restarts = event.time, 0
            self.first_restarts.clear()
        if event.first_restart is not None:
            self.first_restarts[event.attempt] = event.first_restart
        self.state, self.attempt, self.ended, self.not_before = "running", event.attempt, None, 0.0
        self.host = event.host if event.nodes is None else ", ".join(event.held())
        self.gpus, self.cpus = event.gpus, event.cpus
        self.kind, self.reason, self.decision, self.failed_rank, self.log = "", "", "", None, None

    def workers_failed(self, event: WorkersFailed) -> None:
        """Note that its workers have failed, and whether they are restarted."""
        self.restarts += event.again and event.counts
        self.not_before, self.decision = event.time + event.after if event.again else 0.0, event.reason
        if event.failure is not None:
            self.kind, self.reason, self.failed_rank = event.failure.kind, event.failure.reason, event.failure.rank

    def lose_attempt(self, event: AttemptLost) -> None:
        """Note that an attempt was lost, and that another one follows."""
        self.state, self.kind, self.reason = "waiting", event.kind, event.reason
        self.decision, self.not_before = event.decision, event.time + event.after

    def end(self, event: JobEnded) -> None:
        """Note how it has ended."""
        self.state, self.ended, self.kind, self.reason = event.state, event.time, event.kind, event.reason
        if self.started is None or event.seconds:
            self.started = event.time - event.seconds
        self.attempt, self.restarts, self.not_before = event.attempts - 1, event.restarts, 0.0
        self.value, self.decision, self.log = event.value, event.decision, event.log

    def leave_out(self, reason: str) -> None:
        """Note that it is not started."""
        self.state, self.reason = "not started", reason


def _of_task(overrides: Sequence[str]) -> Sequence[str]:
    """Return the overrides without those of Hydra itself."""
    return [text for text in overrides if "hydra." not in text or not text.lstrip("+~").startswith("hydra.")]
