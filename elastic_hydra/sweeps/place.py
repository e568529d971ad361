"""One place where a host may be, from the first time that it is asked for to the last time that one is lost there.

::

    asked for ──▶ examined ──▶ fit: jobs run ──▶ drained ──▶ gone
        ▲             └─ unfit: left alone                     │
        └───────────── after a pause that grows ───────────────┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.transport import Transport
from elastic_hydra.resources.host import Host
from elastic_hydra.supervisor.process import Process
from elastic_hydra.sweeps.clocks import Clocks

__all__ = ["IDLE", "Place", "pause", "wanted_hosts"]

_TRIES = 3
"""So many times in a row a place is tried that has never had a host, and so many agents in a row may die on a host."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
IDLE = 30.0
"""Seconds after which a host without a job is let go, if others could be had again."""
_LATE = 15.0
"""Seconds after which others are tried in place of a host that was asked for, and is not there yet."""


@dataclass(eq=False)
class Place:
    """A place, and what is there now."""

    name: str
    """For people: of the host, or `job 1` where none has a name before it is there."""
    transport: Transport | None = None
    connection: HostConnection | None = None
    asked_at: float = 0.0
    """When it was asked for last, on the monotonic clock."""
    examination: Process | None = None
    """Looks at the host; None: it was looked at, or is not ready for that."""
    examined_by: float = 0.0
    """When that must have ended."""
    host: Host | None = None
    """What it has; None: it is not known to be fit."""
    left_alone: str = ""
    """Why there will be no further host in this sweep; empty: there may be."""
    leaving: str = ""
    """Why nothing more starts there; empty: jobs may start."""
    is_broken: bool = False
    """Whether it leaves because something went wrong that may go well with the next host there."""
    is_drained: bool = False
    """Whether the scheduler knows that nothing more starts there."""
    is_closing: bool = False
    """Whether the host was told that it is over."""
    in_vain: int = 0
    """How many times in a row a host did not come, or was lost."""
    was_fit: bool = False
    """Whether there was ever a host on which jobs could run."""
    died: int = 0
    """How many agents in a row have died there."""
    not_before: float = 0.0
    """When it may be tried again, on the monotonic clock."""
    idle_since: float | None = None
    """Since when no job runs there; None: one does."""
    useless_from: float = math.inf
    """When its time becomes too short for all jobs that wait; infinity: it does not, as far as is known."""
    last_fate: str = ""
    """Why the last host was not there, or is not there any more."""

    @property
    def is_open(self) -> bool:
        """Whether there is a host, or one is asked for."""
        return self.connection is not None

    @property
    def is_settled(self) -> bool:
        """Whether there is a host on which jobs can run, or there will be none."""
        if self.host is not None:
            return not self.is_drained
        return bool(self.left_alone) and not self.is_open

    @property
    def is_coming(self) -> bool:
        """Whether a host is asked for of which nothing was heard yet."""
        return self.connection is not None and self.connection.state is State.coming

    @property
    def is_there(self) -> bool:
        """Whether there is a host that is not lost, or one is asked for."""
        return self.connection is not None and not self.connection.lost

    @property
    def late_at(self) -> float:
        """When others are tried in its place; never for a host that is fit, or for none."""
        return math.inf if self.host is not None or not self.is_there else self.asked_at + _LATE

    @property
    def has_news(self) -> bool:
        """Whether something has become of the host that nobody has seen to yet."""
        connection = self.connection
        if connection is None:
            return False
        if connection.state is State.ended:
            return True
        if connection.lost or self.leaving:
            return not self.is_drained
        if self.host is not None or connection.state is not State.ready:
            return False
        return self.examination is None or self.examination.exitcode is not None

    def next_look(self, now: float, *, is_elastic: bool) -> float:
        """Return when somebody has to see to it, whatever happens; infinity: not before something does.

        Args:
            now: the time.
            is_elastic: whether hosts that have nothing to do are let go.
        """
        moments = [] if self.is_open or self.left_alone else [self.not_before]
        if not is_elastic:
            moments.append(self.late_at)
        elif self.idle_since is not None:
            moments += [self.idle_since + IDLE, self.useless_from]
        later = [moment for moment in moments if moment > now]
        if self.examination is not None and not self.leaving:
            later.append(self.examined_by)
        return min(later, default=math.inf)

    @property
    def missing(self) -> str:
        """What has not happened yet, so that no job runs there."""
        if self.connection is None or self.is_coming:
            return "it has not answered"
        if self.connection.state is State.opening:
            return "its warm server has not started yet"
        return self.connection.fate or self.leaving or "it has not been examined yet"

    @property
    def clocks(self) -> Clocks:
        """The host's clocks, as far as they are known now."""
        assert self.connection is not None
        return Clocks(self.connection.clock_offset, self.connection.wall_offset)

    def closed(self, now: float, *, orderly: bool) -> None:
        """Note that nothing is there any more.

        Args:
            now: the time.
            orderly: whether it was let go; else there was none, or it was lost.
        """
        assert self.connection is not None
        fate = self.leaving or self.connection.fate
        if self.examination is not None:
            self.examination.close()
        refused = self.connection.refuses
        self.transport = self.connection = self.examination = self.host = None
        self.leaving, self.is_broken, self.is_drained, self.is_closing = "", False, False, False
        self.idle_since, self.died = None, 0
        self.useless_from = math.inf
        if orderly:
            self.last_fate = fate
        else:
            self.failed(now, fate, for_good=refused)

    def failed(self, now: float, why: str, *, for_good: bool) -> None:
        """Note that no host has come, or that one was lost.

        Args:
            now: the time.
            why: in words.
            for_good: whether the next one would fare no better, if there was never a fit one.
        """
        self.last_fate = why
        self.in_vain += 1
        self.not_before = now + pause(self.in_vain)
        if not self.was_fit and (for_good or self.in_vain >= _TRIES):
            self.left_alone = why

    def close(self) -> None:
        """Have the host end, which takes a while; further calls change nothing."""
        if self.connection is not None and not self.is_closing:
            self.is_closing = True
            self.connection.begin_closing()

    def agent_ended(self, *, died: bool) -> str:
        """Note how an agent on the host has ended.

        Returns:
            why the host is to be left alone now; empty: it is not.
        """
        self.died = self.died + 1 if died else 0
        if not died:
            self.in_vain = 0
        return f"{self.died} agents in a row have died there" if self.died >= _TRIES else ""


def pause(in_vain: int) -> float:
    """Return how long a place is left alone before it is tried again, in seconds.

    Args:
        in_vain: how many times in a row there was no host, or it was lost.
    """
    return float(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2.0 ** (in_vain - 1)))


def wanted_hosts(slots: int, jobs_per_host: int, most: int, most_nodes: int = 1) -> int:
    """Return how many hosts a batch is to have: enough for all its jobs at once, if there are so many.

    Args:
        slots: of the jobs that run, and of those that wait.
        jobs_per_host: how many run on one host at once, as far as that is known.
        most: how many hosts there may be.
        most_nodes: of a job.
    """
    return min(most, max(-(-slots // max(1, jobs_per_host)), most_nodes if slots else 0))
