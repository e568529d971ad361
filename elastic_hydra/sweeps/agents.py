"""The agent processes of the jobs that run, as the launcher sees them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.jobs import agent_process
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.resources.gpu_memory import Leaving
from elastic_hydra.resources.host import Host
from elastic_hydra.resources.slots import Slot
from elastic_hydra.supervisor.client import ENDS, Client, Process, ServerLost
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.sweeps.state import Shared
from elastic_hydra.sweeps.stop import Order, Stopped

__all__ = ["Agents"]

log = logging.getLogger("elastic_hydra")


@dataclass
class _Agent:
    process: Process
    slot: Slot
    gpu_memory: Mapping[int, int]
    """Bytes that were in use on the GPUs of its slot, by index, before it started."""


class Agents:
    """Starts agents on one server, waits for their ends, and stops them.

    Args:
        server: it ends all agents when it is lost.
        hosts: by their names.
        shared: what all agents get.
    """

    def __init__(self, server: Client, hosts: Mapping[str, Host], shared: Shared) -> None:
        self.server = server
        self._hosts = hosts
        self._shared = shared
        self._agents: dict[int, _Agent] = {}

    @property
    def lost(self) -> bool:
        """Whether the server has died, and all agents with it."""
        return self.server.lost

    def start(self, attempt: Attempt, slot: Slot) -> None:
        """Start the agent of an attempt.

        Args:
            attempt: with all that the agent needs to know.
            slot: the job's.

        Raises:
            ServerLost: it could not be started.
        """
        host, shared = self._hosts[slot.host], self._shared
        cpus = None if slot.allowance is None else frozenset(slot.allowance.cpus)
        spec = ProcessSpec(None, host.allocator.environment(slot), os.getcwd(), current_umask(), cpus=cpus, agent=True)
        gpu_memory = host.gpu_memory.look(slot)
        arguments = (attempt, shared.task, shared.context, shared.hydra_state, list(sys.argv))
        process = self.server.start(spec, (agent_process.run, arguments))
        self._agents[attempt.job.num] = _Agent(process, slot, gpu_memory)

    def wait(self, until: float | None) -> None:
        """Wait until an agent has ended, or somebody asks for something.

        Args:
            until: the latest moment to return at, on the monotonic clock; None: wait for ever.
        """
        timeout = None if until is None else max(0.0, until - time.monotonic())
        with contextlib.suppress(ServerLost):  # a lost server has ended all agents
            self.server.wait(lambda: bool(self.ended()) or self.server.is_asked(), timeout)

    def ended(self) -> list[int]:
        """Return the numbers of the jobs whose agents have ended, and are not forgotten yet."""
        return [num for num, agent in self._agents.items() if agent.process.exitcode is not None]

    def process(self, num: int) -> Process:
        """Return the process of a job's agent."""
        return self._agents[num].process

    def leaving(self, num: int) -> Leaving | None:
        """Return what a job whose agent has ended still holds; None: nothing."""
        agent = self._agents[num]
        return self._hosts[agent.slot.host].gpu_memory.left(agent.slot, agent.gpu_memory)

    def forget(self, num: int) -> None:
        """Drop what is kept of an agent that has ended."""
        self.server.forget([self._agents.pop(num).process])

    def kill(self, num: int) -> None:
        """Kill a job's agent; the server then ends the job's workers."""
        self.signal(num, signal.SIGKILL)

    def signal(self, num: int, number: int) -> None:
        """Send a signal to a job's agent."""
        with contextlib.suppress(ServerLost):  # it has ended, then
            self.server.signal([self._agents[num].process], number)

    def stop(self, attempts: Sequence[Attempt], order: Order, shutdown_timeout: float) -> None:
        """End all agents: in order, or at once if there is a second signal meanwhile.

        Args:
            attempts: those that run.
            order: what has told the launcher to stop.
            shutdown_timeout: seconds that an agent may need.
        """
        processes = [self._agents[attempt.job.num].process for attempt in attempts]
        jobs = ", ".join(f"#{attempt.job.num}" for attempt in attempts)
        while processes:
            try:
                number = order.number
                again = "a second Ctrl-C" if number == signal.SIGINT else "Ctrl-C"
                log.warning("%s: stopping %s; %s kills at once", order, jobs, again)
                wait = shutdown_timeout
                if number not in ENDS:
                    wait += max(attempt.job.launch.keys.checkpoint_timeout for attempt in attempts)
                self.server.stop(processes, number, wait)
                return
            except Stopped as another:  # noqa: PERF203
                order = another.order
            except BaseException:
                self.server.stop(processes, signal.SIGKILL, 0.0)
                raise
