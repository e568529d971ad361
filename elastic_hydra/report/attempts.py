"""What each attempt at a job has gone through, from the events of a journal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    JobEnded,
    SweepBegan,
    WorkersFailed,
    WorkersStarted,
)

__all__ = ["Attempt", "Attempts", "Phase", "Stretch"]

_LONG_PAUSE = 0.1
"""Of the time that launchers have worked."""

Phase: TypeAlias = Literal["start-up", "useful", "lost"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an attempt. Times are in seconds since the epoch."""

    begin: float
    end: float
    phase: Phase
    """`start-up`: from the start of the agent, or from a failure, until the workers call the task function; `useful` or
    `lost`: the workers have worked, and this start of them has ended well, or goes on; or it has not ended well."""

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.begin


@dataclass(slots=True)
class Attempt:
    """One attempt at a job, which holds a slot. Times are in seconds since the epoch."""

    num: int
    """The job."""
    number: int
    """Which attempt it is; the first one is 0."""
    begin: float
    held: Mapping[str, tuple[Sequence[int], Sequence[int]]] = field(default_factory=lambda: {"": ((), ())})
    """The GPUs and CPUs that it holds, by host; an empty name: the launcher's own."""
    end: float | None = None
    """When it ended; None: it has not."""
    state: str = "running"
    """`running`, a state in which jobs end, or `lost`."""
    starts: list[float] = field(default_factory=list)
    """When its workers have called the task function."""
    failures: list[float] = field(default_factory=list)
    """When workers have failed that were restarted then."""

    def stretches(self, now: float, starts_are_recorded: bool = True) -> list[Stretch]:
        """Return what it has gone through, earliest first.

        Args:
            now: when an attempt ends that runs.
            starts_are_recorded: whether its journal says when workers start. If not, all of the time counts as work.
        """
        end = now if self.end is None else self.end
        moments = [(at, "work") for at in self.starts] + [(at, "fail") for at in self.failures]
        if not starts_are_recorded:
            moments += [(at, "work") for at in (self.begin, *self.failures)]
        found: list[Stretch] = []
        since, working = self.begin, False
        for at, what in sorted(moments, key=lambda moment: (moment[0], moment[1] != "fail")):
            if working and what == "work":
                continue
            found.append(Stretch(since, at, "lost" if working else "start-up"))
            since, working = at, what == "work"
        well = self.state in ("running", "finished")
        found.append(Stretch(since, max(since, end), ("useful" if well else "lost") if working else "start-up"))
        return [stretch for stretch in found if stretch.seconds > 0]


@dataclass(slots=True)
class Launch:
    """How long one launcher was at work, in seconds since the epoch."""

    begin: float
    end: float


class Attempts:
    """The attempts of a sweep at its jobs, as the events of one journal have left them.

    Args:
        events: of the journal, in their order.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.attempts: list[Attempt] = []
        """In the order of their starts."""
        self.launches: list[Launch] = []
        """The launchers that have written the journal, one after the other."""
        self.starts_are_recorded = False
        """Whether the journal says when workers start; those of earlier versions do not."""
        self._open: dict[int, Attempt] = {}
        for event in events:
            self._apply(event)

    def pauses(self) -> list[tuple[float, float]]:
        """Return when no launcher was at work between two of them, where that was long beside their time of work."""
        worked = sum(launch.end - launch.begin for launch in self.launches)
        between = [(first.end, second.begin) for first, second in itertools.pairwise(self.launches)]
        return [(begin, end) for begin, end in between if end - begin > _LONG_PAUSE * worked]

    def end(self, now: float | None) -> None:
        """Note that there are no further events.

        Args:
            now: the time, if the last launcher is at work; None: it is not, and what has not ended was lost.
        """
        if now is None:
            self._lose_open()
        elif self.launches:
            self.launches[-1].end = max(now, self.launches[-1].end)

    def _apply(self, event: Event) -> None:
        if not event.time:
            return  # nobody knows when it happened
        if isinstance(event, SweepBegan):
            self._begin(event)
        elif not self.launches:
            self.launches.append(Launch(event.time, event.time))
        launch = self.launches[-1]
        launch.end = max(launch.end, event.time)
        note = _NOTES.get(type(event))
        if note is not None:
            note(self, event)

    def _begin(self, event: SweepBegan) -> None:
        if not event.resume:
            self.attempts.clear()
            self.launches.clear()
            self._open.clear()
        self._lose_open()
        self.launches.append(Launch(event.time, event.time))

    def _lose_open(self) -> None:
        """End what no event has ended: its launcher was killed."""
        for attempt in self._open.values():
            attempt.state, attempt.end = "lost", max(attempt.begin, self.launches[-1].end)
        self._open.clear()

    def _start(self, event: AttemptStarted) -> None:
        attempt = Attempt(event.num, event.attempt, event.time, event.held())
        self.attempts.append(attempt)
        self._open[event.num] = attempt

    def _work(self, event: WorkersStarted) -> None:
        self.starts_are_recorded = True
        if (attempt := self._open.get(event.num)) is not None:
            attempt.starts.append(event.time)

    def _fail(self, event: WorkersFailed) -> None:
        if event.again and (attempt := self._open.get(event.num)) is not None:
            attempt.failures.append(event.time)

    def _end(self, event: AttemptLost | JobEnded) -> None:
        if (attempt := self._open.pop(event.num, None)) is not None:
            attempt.end = max(attempt.begin, event.time)
            attempt.state = event.state if isinstance(event, JobEnded) else "lost"


_NOTES: dict[type[Event], Callable[[Attempts, Any], None]] = {
    AttemptStarted: Attempts._start,
    WorkersStarted: Attempts._work,
    WorkersFailed: Attempts._fail,
    AttemptLost: Attempts._end,
    JobEnded: Attempts._end,
}
