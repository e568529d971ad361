"""What the journal of a sweep says about its other hosts, for whoever looks at it."""

from __future__ import annotations

from elastic_hydra.journal.events import HostJoined, HostLeft, HostLost

__all__ = ["HostsOverview"]


class HostsOverview:
    """The hosts of a sweep, as the events have left them so far. All times are in seconds since the epoch."""

    def __init__(self) -> None:
        self.ends: dict[str, float | None] = {}
        """When each host that is there ends, by the hosts' names; None: nothing limits its time."""

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
