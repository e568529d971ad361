"""A sweep without a host on which its jobs can run: how long it waits for one, and why it gives up."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.sweeps.pending_hosts import PendingHosts
from elastic_hydra.sweeps.place import Place

__all__ = ["Alone"]

_SHOWN_LINES = 5
"""Of the last lines of a way to a host in messages."""


class Alone:
    """Knows since when a sweep has no host.

    Args:
        places: where hosts may be.
        keys: `hydra.launcher.hosts`.
        pending: knows why hosts wait in a queue.
    """

    def __init__(self, places: Sequence[Place], keys: HostsConfig, pending: PendingHosts) -> None:
        self._places = places
        self._keys = keys
        self._pending = pending
        self._since: float | None = None

    @property
    def gives_up_at(self) -> float | None:
        """When a sweep that has no host gives up; None: it has one, or waits for ever."""
        limit = self._keys.start_timeout
        return None if self._since is None or limit is None else self._since + limit

    def look(self, now: float, jobs: int, hosts: Collection[str], *, is_stuck: bool) -> str:
        """Give up when there is no host, or too few for each job, and none is to be waited for any more.

        Args:
            now: the time, on the monotonic clock.
            jobs: how many slots are wanted.
            hosts: the names of those that are there.
            is_stuck: whether the jobs that wait need more than these.

        Returns:
            why it gives up; empty: it does not.
        """
        if (hosts and not is_stuck) or not jobs:
            self._since = None
            return ""
        self._since = now if self._since is None else self._since
        limit = self._keys.start_timeout
        there = f"the jobs that wait need more than {', '.join(hosts)}" if hosts else "no host is there"
        if all(place.is_settled for place in self._places):
            return f"hydra.launcher.hosts.engine={self._keys.engine}: {there}{self._fates()}"
        if limit is not None and now >= self._since + limit:
            late = f"{there}, and no other host" if hosts else "no host"
            return f"hydra.launcher.hosts.start_timeout={limit:g}: {late} has come in time{self._fates()}"
        return ""

    def _fates(self) -> str:
        """Say why there is no other host, by place; of those that have not come, what was heard."""
        told = {place.name: place.left_alone or place.last_fate for place in self._places}
        for place in self._places:
            if place.connection is not None and place.transport is not None and place.host is None:
                missing = place.missing
                place.close()
                ended = place.transport.ended()
                said = " | ".join(ended.last_lines[-_SHOWN_LINES:]) if ended is not None else ""
                missing += self._pending.reason_of(place.name)
                told[place.name] = missing + (f", and said: {said}" if said else "")
        return "".join(f"\n  {name}: {why}" for name, why in told.items() if why)
