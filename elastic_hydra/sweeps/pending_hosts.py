"""The hosts of a sweep that were asked for and wait in a queue: the journal, and people, hear why."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.queue import Pending, Queue
from elastic_hydra.journal.events import HostsPending
from elastic_hydra.overview.hosts import pending_in_words
from elastic_hydra.sweeps.place import Place

__all__ = ["PendingHosts"]

log = logging.getLogger("elastic_hydra")

_NOTEWORTHY = 60.0
"""Seconds by which an estimate must have changed to be written down anew."""


class PendingHosts:
    """Asks an engine's queue why hosts wait, if it has one.

    Args:
        engine: knows where hosts may be.
    """

    def __init__(self, engine: Engine) -> None:
        self._queue: Queue | None = getattr(engine, "queue", None)
        self._known: Sequence[Pending] = ()
        """What was said last."""

    def look(self, places: Iterable[Place], now: float) -> HostsPending | None:
        """Return an event if something has changed.

        Args:
            places: of the sweep.
            now: the time, on the monotonic clock.
        """
        if self._queue is None:
            return None
        coming = {place.name: place.transport for place in places if place.is_coming and place.transport is not None}
        found = self._queue.look(coming, now)
        if found is None:  # those that have come meanwhile do not wait any more
            found = [pending for pending in self._known if pending.place in coming]
        if not _differ(found, self._known):
            return None
        event = HostsPending(hosts=[{"job": each.job, "reason": each.reason, "starts": each.starts} for each in found])
        if found and _reasons(found) != _reasons(self._known):
            log.info("%s", pending_in_words(event.hosts, time.time()))
        self._known = found
        return event

    def next_look(self, now: float) -> float | None:
        """Return when to look again, on the monotonic clock; None: not before something happens."""
        return None if self._queue is None else self._queue.next_look(now)

    def reason_of(self, place: str) -> str:
        """Return why a host waits, as the end of a sentence; empty: it does not, or nobody knows."""
        reasons = [pending.reason for pending in self._known if pending.place == place]
        return f", and waits in the queue: {reasons[0]}" if reasons else ""

    def close(self) -> None:
        """Ask for nothing any more."""
        if self._queue is not None:
            self._queue.close()


def _reasons(pending: Iterable[Pending]) -> Counter[str]:
    return Counter(each.reason for each in pending)


def _differ(found: Sequence[Pending], known: Sequence[Pending]) -> bool:
    """Whether hosts wait that did not, or do not any more, or for another reason, or for another time."""
    if [(each.job, each.reason) for each in found] != [(each.job, each.reason) for each in known]:
        return True
    return any(
        (new.starts is None) != (old.starts is None) or abs((new.starts or 0.0) - (old.starts or 0.0)) > _NOTEWORTHY
        for new, old in zip(found, known, strict=True)
    )
