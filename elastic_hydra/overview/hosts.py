"""What the journal of a sweep says about its other hosts, for whoever looks at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from elastic_hydra.config.sizes import counted
from elastic_hydra.journal.events import HostJoined, HostLeft, HostLost, HostsPending
from elastic_hydra.overview.words import moment

__all__ = ["HostsOverview", "pending_in_words"]


class HostsOverview:
    """The hosts of a sweep, as the events have left them so far. All times are in seconds since the epoch."""

    def __init__(self) -> None:
        self.ends: dict[str, float | None] = {}
        """When each host that is there ends, by the hosts' names; None: nothing limits its time."""

        self.pending: Sequence[Mapping[str, Any]] = ()
        """Those that were asked for and wait in a queue, as `HostsPending` says it."""

    def wait(self, event: HostsPending) -> None:
        """Note which hosts wait."""
        self.pending = event.hosts

    def join(self, event: HostJoined) -> None:
        """Note that a host is there."""
        self.ends[event.host] = event.ends

    def leave(self, event: HostLeft | HostLost) -> None:
        """Note that a host is not there any more."""
        self.ends.pop(event.host, None)

    def too_short_until(self, duration: float | None, now: float) -> float | None:
        """Return when the last host ends if none has enough time for a job that starts now; None: one has.

        Args:
            duration: of the job, in seconds; None: any time is enough.
            now: the time.
        """
        ends = [end for end in self.ends.values() if end is not None]
        if duration is None or not ends or len(ends) < len(self.ends):
            return None
        return max(ends) if now + duration > max(ends) else None


def pending_in_words(pending: Sequence[Mapping[str, Any]], now: float) -> str:
    """Say which hosts wait in the queue, and why.

    Args:
        pending: as `HostsPending` says it; not empty.
        now: the time, in seconds since the epoch.
    """
    reasons = Counter(str(host.get("reason") or "no reason is known") for host in pending)
    why = ", ".join(f"{reason} ({count})" if len(pending) > 1 else reason for reason, count in reasons.most_common())
    said = f"{counted(len(pending), 'host')} {'wait' if len(pending) > 1 else 'waits'} in the queue: {why}"
    starts = [start for host in pending if isinstance(start := host.get("starts"), (int, float)) and start > now]
    first = "the first is " if len(pending) > 1 else ""
    return said + (f"; {first}expected at {moment(min(starts), now)}" if starts else "")
