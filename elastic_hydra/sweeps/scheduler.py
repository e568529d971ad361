"""What happens next in a batch of jobs: which one starts, when, and where. It decides, and does nothing else.

There is no process, no file and no clock in here: `Batch` asks what comes next, does it, and tells what has become of
it. A dry run asks the same scheduler and starts nothing, so that it shows what a run would do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from elastic_hydra import timeouts
from elastic_hydra.config.resources import Demand
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.resources import gpu_memory
from elastic_hydra.resources.gpu_memory import Leaving
from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps.failure_limit import FailureLimit
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.steps import Blocked, ComposeJob, Done, KillAgent, LeaveOut, StartJob, Step, StopAgent, Wait
from elastic_hydra.sweeps.stop import Order

__all__ = ["OVERTAKING_LIMIT", "Running", "Scheduler", "next_to_start"]

OVERTAKING_LIMIT = 8
"""Jobs that may overtake the first of the queue before everyone waits for it."""
_BLOCKED_INTERVAL = 0.5
"""Seconds between two looks at whether jobs can be started again."""

T = TypeVar("T")


@dataclass(eq=False)
class Running:
    """A job that has been started."""

    attempt: Attempt
    slots: tuple[Slot, ...]
    """One for each of its nodes, in the order of their ranks."""
    overdue: bool = False
    """Whether its agents were killed because they have not ended the job in time."""
    order: Order | None = None
    """What has told this job to stop; None: nothing has."""
    stopped_at: float | None = None
    """When its agents were told so, or when the first of several has failed: since then they have to end."""
    ends: dict[int, AttemptEnd] = field(default_factory=dict)
    """How the agents of its nodes have ended, by the nodes' ranks, in the order in which they have."""
    leaving: list[Leaving] = field(default_factory=list)
    """What those that have ended still hold."""
    later: Sequence[Attempt] = ()
    """The attempt as the agents of its last nodes are to see it, which start when node 0 has said where they meet."""

    @property
    def deadline(self) -> float | None:
        """When its agents must have ended the job, and themselves; None: there is no limit."""
        deadlines = [] if self.attempt.deadline is None else [self.attempt.deadline]
        if self.stopped_at is not None:
            deadlines.append(self.stopped_at + timeouts.end_of_agent(self.attempt.job.launch.keys.shutdown_timeout))
        return min(deadlines, default=None)

    def nodes_left(self) -> list[int]:
        """Return the ranks of the nodes whose agents were started, and have not ended."""
        return [rank for rank in range(len(self.slots) - len(self.later)) if rank not in self.ends]

    def is_on(self, host: str) -> bool:
        """Whether one of its nodes is a host."""
        return any(slot.host == host for slot in self.slots)


class Scheduler:
    """The queue of a batch, the slots that its jobs hold on hosts, and the jobs that run.

    All times are seconds on one clock, which is the caller's.

    Args:
        planned: numbers and overrides of the jobs, none of them composed, in their order.
        hosts: their slots, all of them free. Hosts may be added, drained and removed at any time.
        stagger: seconds between two starts.
        failures: how many jobs may fail.
    """

    def __init__(
        self,
        planned: Iterable[tuple[int, list[str]]],
        hosts: HostSlots,
        *,
        stagger: float = 0.0,
        failures: FailureLimit | None = None,
    ) -> None:
        self.planned = deque(planned)
        """Jobs that are not composed yet."""
        self.size = len(self.planned)
        """How many jobs there are, those that have ended and those that run included."""
        self.waiting: list[Attempt] = []
        self.running: dict[int, Running] = {}
        """By the jobs' numbers, in the order of their starts."""
        self.leaving: list[Leaving] = []
        """Slots of jobs that have ended, where a GPU is not empty yet."""
        self.hosts = hosts
        self.failures = failures or FailureLimit()
        self.given_up = ""
        """Why no further job starts; empty: nothing is in the way."""
        self.starts = 0
        """How many attempts were started."""
        self.most_nodes = 1
        """Of a job that was composed so far: different hosts that it needs at once."""
        self._stagger = stagger
        self._next_start = 0.0
        self._overtaken = 0
        """How many jobs have overtaken the first that waits."""
        self._orders: dict[int, Order] = {}
        """What has told jobs to stop, by their numbers."""

    # --- what comes next ------------------------------------------------------------------------------------------

    def next(self, now: float, blocked: Blocked | None = None) -> Step:
        """Say what happens next.

        Args:
            now: the time.
            blocked: what keeps all jobs from being started now; None: nothing does.
        """
        if (num := self._overdue(now)) is not None:
            return KillAgent(num)
        if self._orders and (step := self._stop(now)) is not None:
            return step
        if self.waiting or self.planned:
            self.given_up = self.given_up or self._no_further(blocked)
            if self.given_up:
                return self._compose() or self._leave_out()
            if blocked is None and (start := self._start(now)) is not None:
                return start
            if (compose := self._compose()) is not None:
                return compose  # the time while nothing can start is used for it
        elif not self.running:
            return Done()
        return Wait(self._until(now, blocked))

    def pause(self, now: float) -> float:
        """Return how long no job may start even if there is room, in seconds; 0 when one may."""
        earliest = min((attempt.not_before for attempt in self.waiting), default=0.0)
        return max(0.0, max(self._next_start, earliest) - now)

    def _overdue(self, now: float) -> int | None:
        for num, running in self.running.items():
            deadline = running.deadline
            if not running.overdue and deadline is not None and deadline <= now:
                running.overdue = True
                return num
        return None

    def _stop(self, now: float) -> StopAgent | LeaveOut | None:
        """Say which jobs are to be stopped, or not to be started, as somebody has asked."""
        for num, running in self.running.items():
            if running.order is None and (order := self._orders.get(num)) is not None:
                running.order, running.stopped_at = order, now
                return StopAgent(num, order)
        for attempt in self.waiting:
            if (order := self._orders.get(attempt.job.num)) is not None:
                self.waiting.remove(attempt)
                return LeaveOut([attempt], f"stopped by {order}")
        return None

    def _no_further(self, blocked: Blocked | None) -> str:
        """Say why no further job is to start at all; nothing when some are."""
        if blocked is not None and blocked.lasting and not self.running:
            return blocked.reason
        return self.failures.exceeded(self.size)

    def _compose(self) -> ComposeJob | None:
        return ComposeJob(*self.planned[0]) if self.planned else None

    def _leave_out(self) -> LeaveOut:
        attempts, self.waiting = self.waiting, []
        return LeaveOut(attempts, self.given_up)

    def _start(self, now: float) -> StartJob | None:
        """Take the attempt that is to start now from those that wait, and slots for it."""
        if self.pause(now) > 0.0:
            return None
        looked_at: list[Attempt] = []

        def demands() -> Iterator[Demand]:  # mostly only the first one is looked at
            for attempt in self.waiting:
                demand = attempt.job.launch.demand
                # A job that the hosts could never serve waits for others, and keeps no jobs waiting for it.
                if attempt.not_before <= now and self.hosts.can_serve(demand, now):
                    looked_at.append(attempt)
                    yield demand

        chosen = next_to_start(demands(), lambda demand: self.hosts.take(demand, now), self._overtaken)
        if chosen is None:
            return None
        index, slots = chosen
        attempt = looked_at[index]
        self._overtaken = self._overtaken + 1 if index else 0
        self._next_start = now + self._stagger
        self.waiting.remove(attempt)
        if attempt.began is None:
            attempt.began = now
        self.running[attempt.job.num] = Running(attempt, slots)
        self.starts += 1
        return StartJob(attempt, slots)

    def _until(self, now: float, blocked: Blocked | None) -> float | None:
        """Return when to ask again although no job has ended; None: not before one has."""
        moments = [attempt.not_before for attempt in self.waiting if attempt.not_before > now]
        if self.waiting and self._next_start > now:
            moments.append(self._next_start)
        deadlines = [running.deadline for running in self.running.values() if not running.overdue]
        moments += [deadline for deadline in deadlines if deadline is not None]
        if self.leaving:
            moments.append(now + gpu_memory.INTERVAL)
        if blocked is not None:
            moments.append(now + _BLOCKED_INTERVAL)
        return min(moments, default=None)

    # --- what has become of it ------------------------------------------------------------------------------------

    def composed(self, attempt: Attempt | None) -> None:
        """Take the first planned job, which is composed now, into the queue.

        Args:
            attempt: the first one at it; None: the job is not to be run.
        """
        self.planned.popleft()
        if attempt is not None:
            self.waiting.append(attempt)
            self.most_nodes = max(self.most_nodes, attempt.job.launch.demand.nodes)

    def not_started(self, num: int) -> None:
        """Put a job back to the front of the queue: it could not be started."""
        running = self.running.pop(num)
        self.starts -= 1
        self.hosts.give_back(running.slots)
        self.waiting.insert(0, running.attempt)

    def node_failed(self, num: int, now: float) -> None:
        """Note that one of a job's nodes has failed: those that are left have to end, and the attempt with them.

        Args:
            num: the job.
            now: the time.
        """
        running = self.running[num]
        if running.stopped_at is None:
            running.stopped_at = now

    def ended(self, num: int) -> None:
        """Note that an attempt has ended, on all of its nodes. What it does not still hold is free."""
        running = self.running.pop(num)
        self.leaving += running.leaving
        held = [leaving.slot for leaving in running.leaving]
        self.hosts.give_back(slot for slot in running.slots if slot not in held)

    def try_again(self, attempt: Attempt) -> None:
        """Put a further attempt at a job to the front of the queue."""
        self.waiting.insert(0, attempt)

    def has_left(self, leaving: Leaving) -> None:
        """Note that a job which has ended holds nothing any more."""
        self.leaving.remove(leaving)
        self.hosts.give_back([leaving.slot])

    def slots_wanted(self) -> int:
        """Return how many slots the jobs would hold if all of them ran at once."""
        held = sum(len(running.slots) for running in self.running.values())
        if self.most_nodes == 1:  # a long queue is not gone through for nothing
            return len(self.waiting) + len(self.planned) + held
        return sum(attempt.job.launch.demand.nodes for attempt in self.waiting) + len(self.planned) + held

    def is_stuck(self, now: float) -> bool:
        """Whether nothing runs, and the hosts that are there could serve none of the jobs that wait."""
        if self.running or self.planned or not self.waiting:
            return False
        return not any(self.hosts.can_serve(attempt.job.launch.demand, now) for attempt in self.waiting)

    def useless_from(self, host: str) -> float:
        """Return from when on no job that waits can start on a host, since its time is too short; infinity: one can."""
        if self.planned:  # what these need is not known yet
            return math.inf
        return self.hosts.useless_from(host, (attempt.job.launch.demand for attempt in self.waiting))

    def known(self) -> set[int]:
        """Return the numbers of the jobs that run, or wait to run."""
        return {*self.running, *(attempt.job.num for attempt in self.waiting), *(num for num, _ in self.planned)}

    def stop(self, num: int, order: Order) -> None:
        """Have a job stopped that runs, or not started that waits; a further order changes nothing.

        Args:
            num: the job.
            order: what tells it to stop.
        """
        self._orders.setdefault(num, order)

    def give_up(self, reason: str, *, forget_planned: bool = False) -> None:
        """Let no further job start.

        Args:
            reason: in words.
            forget_planned: whether those that are not composed yet are not even left out: nobody asks for them.
        """
        self.given_up = self.given_up or reason
        if forget_planned:
            self.planned.clear()


def next_to_start(
    waiting: Iterable[Demand], take: Callable[[Demand], T | None], overtaken: int
) -> tuple[int, T] | None:
    """Choose the job to start now.

    The first in the queue goes first. While it does not fit, others may overtake it, but only so many: then nothing
    starts until it fits, so that large jobs are not starved.

    Args:
        waiting: demands of the jobs that have not started, in their order.
        take: holds slots for a demand; None: there is no room for it.
        overtaken: how many jobs have overtaken the first one so far.

    Returns:
        the index of the job and what it now holds, or None when none may start.
    """
    first: Demand | None = None
    for index, demand in enumerate(waiting):
        if index > 0 and overtaken >= OVERTAKING_LIMIT:
            return None
        if demand == first:
            continue
        if first is None:
            first = demand
        held = take(demand)
        if held is not None:
            return index, held
    return None
