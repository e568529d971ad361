"""What the journal of a sweep says about the sweep and its jobs, for whoever looks at it."""

from __future__ import annotations

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from elastic_hydra.journal.codec import word_of
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    BatchBegan,
    Event,
    HostJoined,
    HostLeft,
    HostLost,
    HostsPending,
    JobComposed,
    JobEnded,
    JobsLeftOut,
    LauncherSubmitted,
    StartsHeldUp,
    SweepBegan,
    SweepStopped,
    WorkersFailed,
)
from elastic_hydra.journal.place import place_now
from elastic_hydra.overview.hosts import HostsOverview
from elastic_hydra.overview.job import FAILED_STATES, JobOverview

__all__ = ["OF_JOBS", "SHOWN", "SweepOverview"]


class SweepOverview:
    """One sweep, as the events of its journal have left it so far.

    Events are given to `apply` in their order, by whoever reads the journal (`overview.follow`) or writes it.

    Args:
        folder: the sweep's directory, where it is now.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self.alive: bool | None = None
        """Whether the launcher, or a worker of it, still lives; None: that cannot be seen from here."""
        self.began: SweepBegan | None = None
        """Tells of the last launcher: its command, host and process id; None: no launcher has begun."""
        self.submitted: LauncherSubmitted | None = None
        """Tells of the launcher that was submitted as a Slurm job, and has not begun yet; None: there is none."""
        self.first_began = 0.0
        """When the first launcher began, in seconds since the epoch."""
        self.last_event = 0.0
        """When something happened last, in seconds since the epoch."""
        self.stopped: SweepStopped | None = None
        """Tells why the last launcher ended before the sweep was done; None: it did not say so."""
        self.jobs: dict[int, JobOverview] = {}
        """By their numbers, in the order in which they were composed."""
        self.planned = 0
        """How many further jobs there are that are not composed yet."""
        self._never_composed = 0
        """How many further jobs there are that were left out before they were composed."""
        self.parallel = ""
        """How many jobs run at once: `hydra.launcher.parallel`; empty: unknown."""
        self.held_up = ""
        """What keeps all jobs from being started now; empty: nothing."""
        self.hosts = HostsOverview()
        """Those on which jobs run beside the launcher's own."""
        self._counts: Counter[str] = Counter()
        """How many jobs are in each state."""
        self._overrides: Counter[str] = Counter()
        """How many jobs have each override, but for those of `_uncounted`."""
        self._uncounted: list[Sequence[str]] = []
        """The overrides of jobs that are not counted yet: it is quicker to count those of many jobs at once."""
        self._place_now: Callable[[str], str] = str
        """Returns where a directory is now that the last launcher has recorded; until one has, each is where it was."""

    def apply(self, event: Event) -> None:
        """Note what has happened. Events that say nothing about what is shown are passed over."""
        kind = type(event)
        if kind in _NOTES_OF_JOB:
            job = self.jobs.get(event.num)  # type: ignore[attr-defined]
            if job is None:
                return  # events of a job that was never composed say nothing
            job.be_told()
            before = job.state
            _note(job, event, self._place_now)
            if job.state != before:
                self._counts[before] -= 1
                self._counts[job.state] += 1
        elif (of_sweep := _NOTES.get(kind)) is not None:
            of_sweep(self, event)
        else:
            return
        if event.time > self.last_event:
            self.last_event = event.time

    def compose_later(
        self, num: int, overrides: Sequence[str], time: float, events: Callable[[], Iterable[Event]]
    ) -> None:
        """Note that a job was composed, and all else when somebody asks for it.

        Args:
            num: the job.
            overrides: its overrides.
            time: when it was composed, in seconds since the epoch.
            events: returns all that has happened to it: that it was composed is the first one.
        """
        self._add(JobOverview.untold(num, overrides, functools.partial(_told, events, self._place_now)))
        if time > self.last_event:
            self.last_event = time

    def end_later(self, num: int, state: str, time: float) -> None:
        """Note that a job has ended that waited, of which all else is noted when somebody asks for it.

        Args:
            num: the job.
            state: in which state it has ended.
            time: when it has ended, in seconds since the epoch.
        """
        job = self.jobs[num]
        self._counts[job.state] -= 1
        self._counts[state] += 1
        job.state, job.ended = state, time
        if time > self.last_event:
            self.last_event = time

    # --- what is shown --------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """What has become of the sweep.

        Returns:
            `running`; `submitted`, when its launcher is a Slurm job that has not begun yet; `stopped`, when its
            launcher was told to end; `died`, when its launcher ended without a word;
            `finished` or `failed`, when all jobs have ended and all or not all of them have finished; `empty`, when it
            has no job.
        """
        if self.submitted is not None and not self.alive:
            return "submitted"
        if self.alive or (self.alive is None and self.stopped is None and self._open_jobs()):
            return "running"
        if self.stopped is not None:
            return "stopped"
        if self._open_jobs():
            return "died"
        if not self.total:
            return "empty"
        return "finished" if self._counts["finished"] == self.total else "failed"

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state that any job is in, in the words of `state_of`."""
        waiting, counts = self._in_words("waiting"), Counter[str]()
        for state, count in self._counts.items():
            counts[self._in_words(state)] += count
        counts[waiting] += self.planned
        counts["not started"] += self._never_composed
        return {state: count for state, count in counts.items() if count}

    def state_of(self, job: JobOverview) -> str:
        """Return the state of a job; where the launcher is dead, `lost` for running and `not started` for waiting."""
        return self._in_words(job.state)

    def seconds(self, job: JobOverview, now: float) -> float:
        """Return how long a job has run: until now if it has not ended, or until its dead launcher was heard of last.

        Args:
            job: one of the sweep.
            now: the time, in seconds since the epoch.
        """
        return job.seconds(self.last_event if self.state_of(job) == "lost" else now)

    def differing(self, job: JobOverview) -> list[str]:
        """Return the overrides of a job that not all jobs have: what tells it from the others."""
        total, counts = len(self.jobs), self._counts_of_overrides()
        if total == 1:
            return list(job.overrides)
        return [override for override in job.overrides if counts[override] < total]

    def common(self) -> list[str]:
        """Return the overrides that all jobs have; none when there is only one job."""
        total, counts = len(self.jobs), self._counts_of_overrides()
        return [override for override, count in counts.items() if count == total] if total > 1 else []

    @property
    def waiting(self) -> int:
        """How many jobs wait, those that are not composed yet included."""
        return self._counts["waiting"] + self.planned

    @property
    def total(self) -> int:
        """How many jobs there are, those that are not composed yet included."""
        return len(self.jobs) + self.planned + self._never_composed

    def running(self) -> list[JobOverview]:
        """Return the jobs that run, in the order of their starts."""
        found = [job for job in self.jobs.values() if job.state == "running"]
        return sorted(found, key=lambda job: job.started or 0.0)

    def failures(self) -> list[JobOverview]:
        """Return the jobs that have run and not finished, those that ended last first."""
        failed = [state for state in self._counts if self._in_words(state) in FAILED_STATES]
        found = [job for job in self.jobs.values() if job.state in failed]
        return sorted(found, key=lambda job: job.ended or self.last_event, reverse=True)

    @property
    def host(self) -> str:
        """Name of the host on which the last launcher ran; empty: unknown."""
        return self.began.host if self.began is not None else ""

    @property
    def output(self) -> str:
        """The file that has the output of the last launcher, where it is now; empty: that is not in a file."""
        last = self.last_launcher
        return self._place_now(last.output) if last is not None and last.output else ""

    @property
    def last_launcher(self) -> SweepBegan | LauncherSubmitted | None:
        """What tells of the launcher that has begun last, or was submitted after that; None: there is none."""
        return self.submitted or self.began

    @property
    def command(self) -> Sequence[str]:
        """The last launcher's command line; empty: unknown."""
        return self.last_launcher.command if self.last_launcher is not None else ()

    def _open_jobs(self) -> int:
        return self._counts["running"] + self._counts["waiting"] + self.planned

    def _counts_of_overrides(self) -> Counter[str]:
        uncounted, self._uncounted = self._uncounted, []
        self._overrides.update(itertools.chain.from_iterable(map(dict.fromkeys, uncounted)))
        return self._overrides

    def _in_words(self, state: str) -> str:
        if state not in _OF_THE_DEAD or self.state == "running" or (self.submitted is not None and state == "waiting"):
            return state
        return _OF_THE_DEAD[state]

    # --- what has happened ----------------------------------------------------------------------------------------

    def _submit(self, event: LauncherSubmitted) -> None:
        self.submitted = event
        self._take_place(event.dir)

    def _take_place(self, recorded: str | None) -> None:
        """Note where the sweep's directory was, by what is recorded of it."""
        if recorded:
            moved = functools.partial(place_now, recorded_sweep=recorded, sweep=self.folder)
            self._place_now = str if recorded == self.folder else moved

    def _begin(self, event: SweepBegan) -> None:
        if not event.resume:
            self.jobs.clear()
            self._counts.clear()
            self._overrides.clear()
            self._uncounted.clear()
            self.first_began = event.time
        self.began, self.submitted, self.stopped, self.held_up = event, None, None, ""
        self.hosts = HostsOverview()
        self.planned = self._never_composed = 0
        self.first_began = self.first_began or event.time
        self._take_place(event.dir)
        for job in self.jobs.values():
            if job.state == "running":  # the launcher before was killed: this one has yet to start the job again
                self._counts["running"] -= 1
                self._counts["waiting"] += 1
                job.state = "waiting"

    def _compose(self, event: JobComposed) -> None:
        self._add(JobOverview.composed(event, self._place_now))

    def _add(self, job: JobOverview) -> None:
        if (before := self.jobs.pop(job.num, None)) is not None:
            self._counts[before.state] -= 1
            self._counts_of_overrides().subtract(set(before.overrides))
        else:
            self.planned = max(0, self.planned - 1)
        self.jobs[job.num] = job
        self._counts[job.state] += 1
        self._uncounted.append(job.overrides)

    def _plan(self, event: BatchBegan) -> None:
        self.planned, self.parallel = max(0, event.jobs), event.parallel

    def _hold_up(self, event: StartsHeldUp) -> None:
        self.held_up = event.reason

    def _leave_out(self, event: JobsLeftOut) -> None:
        for num in event.nums:
            if (job := self.jobs.get(num)) is None:
                self.planned = max(0, self.planned - 1)
                self._never_composed += 1
            else:
                self._counts[job.state] -= 1
                job.be_told()
                job.leave_out(event.reason)
                self._counts[job.state] += 1

    def _stop(self, event: SweepStopped) -> None:
        self.stopped = event


def _told(events: Callable[[], Iterable[Event]], place_now: Callable[[str], str]) -> JobOverview:
    """Return a job with all that has happened to it: that it was composed is the first event."""
    composed, *further = events()
    assert isinstance(composed, JobComposed)
    job = JobOverview.composed(composed, place_now)
    for event in further:
        _note(job, event, place_now)
    return job


def _note(job: JobOverview, event: Event, place_now: Callable[[str], str]) -> None:
    """Note what has happened to a job. Recorded directories are now where `place_now` says."""
    _NOTES_OF_JOB[type(event)](job, event)
    if isinstance(event, JobEnded) and job.log is not None:
        job.log = place_now(job.log)


_OF_THE_DEAD = {"running": "lost", "waiting": "not started"}
"""What became of jobs whose launcher is dead, by their last recorded state."""

_NOTES_OF_JOB: dict[type[Event], Callable[[JobOverview, Any], None]] = {
    AttemptStarted: JobOverview.start,
    WorkersFailed: JobOverview.workers_failed,
    AttemptLost: JobOverview.lose_attempt,
    JobEnded: JobOverview.end,
}

_NOTES: dict[type[Event], Callable[[SweepOverview, Any], None]] = {
    LauncherSubmitted: SweepOverview._submit,
    SweepBegan: SweepOverview._begin,
    JobComposed: SweepOverview._compose,
    SweepStopped: SweepOverview._stop,
    BatchBegan: SweepOverview._plan,
    StartsHeldUp: SweepOverview._hold_up,
    HostJoined: lambda sweep, event: sweep.hosts.join(event),
    HostLeft: lambda sweep, event: sweep.hosts.leave(event),
    HostsPending: lambda sweep, event: sweep.hosts.wait(event),
    HostLost: lambda sweep, event: sweep.hosts.leave(event),
    JobsLeftOut: SweepOverview._leave_out,
}

OF_JOBS = frozenset(map(word_of, _NOTES_OF_JOB)) | {word_of(JobComposed)}
"""The words of the events that are about one job."""
SHOWN = OF_JOBS.union(map(word_of, _NOTES))
"""The words of the events that say something about what is shown."""
