"""What users do with a running sweep by `elastic-hydra stop` and `stacks`: from a request to what follows from it."""

from __future__ import annotations

from elastic_hydra.control.asked import Asked
from elastic_hydra.control.listener import ControlSocket
from elastic_hydra.control.mailbox import Mailbox
from elastic_hydra.control.requests import STACKS, STOP
from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.agents import Agents
from elastic_hydra.sweeps.inline import InlineAgents
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.stop import Order, Stopped
from elastic_hydra.watch.stacks_request import SIGNAL

__all__ = ["Hands", "stop_if_asked"]


def taken(control: ControlSocket | None, mailbox: Mailbox | None) -> list[Asked]:
    """Return the requests that have come, from this host and from others."""
    here = control.take() if control is not None and control.has_requests else []
    return here + (mailbox.take() if mailbox is not None else [])


def stop_if_asked(control: ControlSocket | None, mailbox: Mailbox | None, journal: Journal) -> None:
    """Do what is asked while the launcher waits for its first host: only all of the sweep can be stopped.

    Args:
        control: takes requests from this host; None: nobody can ask.
        mailbox: takes those from other hosts; None: nobody can ask.
        journal: of the sweep. It says who has asked, and why.

    Raises:
        Stopped: the sweep is to stop.
    """
    for asked in taken(control, mailbox):
        request = asked.request
        if request.verb != STOP or request.jobs:
            asked.refuse("no job can run or wait yet, since there is no host: wait for one, or stop all of the sweep")
            continue
        journal.write(events.StopAsked(by=asked.by, reason=request.reason, nums=(), left_out=()), durable=True)
        asked.answer(running=[], left_out=[])
        raise Stopped(Order(by=asked.by, reason=request.reason))


class Hands:
    """Does, for a batch of jobs, what is asked by the control socket, or says why not.

    Args:
        control: takes requests from this host; None: nobody can ask.
        journal: of the sweep. It says who has asked, and why.
        scheduler: of the batch.
        mailbox: takes requests from other hosts; None: nobody can ask.
    """

    def __init__(
        self, control: ControlSocket | None, journal: Journal, scheduler: Scheduler, mailbox: Mailbox | None = None
    ) -> None:
        self._control = control
        self._mailbox = mailbox
        self._journal = journal
        self._scheduler = scheduler

    def do_what_is_asked(self, agents: Agents | InlineAgents) -> None:
        """Do it, between two steps of the launcher's loop.

        Raises:
            Stopped: the sweep is to stop.
        """
        for asked in taken(self._control, self._mailbox):
            if unknown := sorted(set(asked.request.jobs) - self._scheduler.known()):
                what = f"no job {', '.join(f'#{num}' for num in unknown)} runs or waits in this sweep"
                asked.refuse(f"{what}, so nothing is done; elastic-hydra status shows the jobs")
            elif asked.request.verb == STACKS:
                self._have_stacks_written(asked, agents)
            else:
                self._stop(asked)

    def close(self, why: str) -> None:
        """Do nothing more that is asked.

        Args:
            why: for who has asked.
        """
        if self._control is not None:
            self._control.refuse_all(why)
        if self._mailbox is not None:
            self._mailbox.refuse_all(why)

    def until(self, moment: float | None) -> float | None:
        """Return the moment at which a wait has to end, since somebody may have asked for something.

        Args:
            moment: at which it ends in any case, on the monotonic clock; None: never.
        """
        moments = [moment, None if self._mailbox is None else self._mailbox.next_look]
        return min((each for each in moments if each is not None), default=None)

    def _stop(self, asked: Asked) -> None:
        nums, reason = asked.request.jobs, asked.request.reason
        order = Order(by=asked.by, reason=reason)
        left_out = [num for num in nums if num not in self._scheduler.running]
        self._journal.write(events.StopAsked(by=asked.by, reason=reason, nums=nums, left_out=left_out), durable=True)
        for num in nums:
            self._scheduler.stop(num, order)
        running = [num for num in self._scheduler.running if num in nums or not nums]
        asked.answer(running=running, left_out=left_out)
        if not nums:
            raise Stopped(order)

    def _have_stacks_written(self, asked: Asked, agents: Agents | InlineAgents) -> None:
        for num in asked.request.jobs:
            if num not in self._scheduler.running:
                asked.refuse(f"#{num} waits to be started, and has no workers yet")
                return
        for num in asked.request.jobs:
            agents.signal(num, SIGNAL)
        asked.answer(running=list(asked.request.jobs))
