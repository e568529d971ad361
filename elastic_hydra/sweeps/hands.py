"""What users do with a running sweep by `elastic-hydra stop` and `stacks`: from a request to what follows from it."""

from __future__ import annotations

from elastic_hydra.control.listener import Asked, ControlSocket
from elastic_hydra.control.requests import STACKS
from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.agents import Agents
from elastic_hydra.sweeps.inline import InlineAgents
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.stop import Order, Stopped
from elastic_hydra.watch.stacks_request import SIGNAL

__all__ = ["Hands"]


class Hands:
    """Does, for a batch of jobs, what is asked by the control socket, or says why not.

    Args:
        control: the socket; None: nobody can ask.
        journal: of the sweep. It says who has asked, and why.
        scheduler: of the batch.
    """

    def __init__(self, control: ControlSocket | None, journal: Journal, scheduler: Scheduler) -> None:
        self._control = control
        self._journal = journal
        self._scheduler = scheduler

    def do_what_is_asked(self, agents: Agents | InlineAgents) -> None:
        """Do it, between two steps of the launcher's loop.

        Raises:
            Stopped: the sweep is to stop.
        """
        if self._control is None or not self._control.has_requests:
            return
        for asked in self._control.take():
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
