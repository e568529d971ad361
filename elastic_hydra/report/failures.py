"""The failures of a sweep, those that look alike together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from elastic_hydra.journal.events import AttemptLost, AttemptStarted, Event, JobEnded, SweepBegan, WorkersFailed

__all__ = ["FailureGroup", "grouped"]

_CHANGING = re.compile(r"0x[0-9a-f]+|\d+(\.\d+)?", re.IGNORECASE)
"""What differs in the reasons of failures that are alike: ranks, process ids, addresses, sizes."""


@dataclass(slots=True)
class FailureGroup:
    """Failures whose reasons differ in numbers only."""

    kind: str
    reason: str
    """The reason of the first one, in one line."""
    first: float
    """When that was, in seconds since the epoch."""
    ended: list[int] = field(default_factory=list)
    """The jobs that have ended so."""
    retried: list[int] = field(default_factory=list)
    """The jobs that were restarted or tried again after it; a job is there as often as that has happened."""
    traceback: str = ""
    """Of the first job of which there is one."""
    log: str = ""
    """Where to read on about that job, or else about the first one."""


def grouped(events: Iterable[Event]) -> list[FailureGroup]:
    """Return the failures in a journal, those first that have ended most jobs.

    Args:
        events: of the journal, in their order.
    """
    groups = _Groups()
    for event in events:
        groups.note(event)
    return groups.ordered()


class _Groups:
    """The failures in a journal up to an event."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], FailureGroup] = {}
        self._ended: dict[int, FailureGroup] = {}
        """The group of each job that has ended with a failure."""

    def ordered(self) -> list[FailureGroup]:
        return sorted(self._groups.values(), key=lambda group: (-len(group.ended), -len(group.retried)))

    def note(self, event: Event) -> None:
        if isinstance(event, SweepBegan) and not event.resume:
            self._groups.clear()
            self._ended.clear()
        elif isinstance(event, AttemptStarted):
            self._run_again(event.num)
        elif isinstance(event, JobEnded) and event.state != "finished":
            self._end(event)
        elif isinstance(event, AttemptLost):
            self._group(event.kind, event.reason, event.time).retried.append(event.num)
        elif isinstance(event, WorkersFailed) and event.again and event.failure is not None:
            group = self._group(event.failure.kind, event.failure.reason, event.time)
            group.retried.append(event.num)
            group.log = group.log or event.failure.log_dir

    def _end(self, event: JobEnded) -> None:
        group = self._group(event.kind or event.state, event.reason, event.time)
        group.ended.append(event.num)
        self._ended[event.num] = group
        if event.traceback and not group.traceback:
            group.traceback, group.log = event.traceback, event.log or ""
        group.log = group.log or event.log or ""

    def _run_again(self, num: int) -> None:
        """Note that a resumed sweep runs a job again that had failed."""
        if (group := self._ended.pop(num, None)) is not None:
            group.ended.remove(num)
            group.retried.append(num)

    def _group(self, kind: str, reason: str, time: float) -> FailureGroup:
        return self._groups.setdefault((kind, _CHANGING.sub("0", reason)), FailureGroup(kind, reason, time))
