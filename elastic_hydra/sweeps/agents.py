"""The agent processes of the jobs that run, as the launcher sees them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from elastic_hydra.jobs import agent_process
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.resources.gpu_memory import Leaving
from elastic_hydra.resources.host import Host
from elastic_hydra.resources.slots import Slot
from elastic_hydra.supervisor.client import ENDS, Client, Process, ServerLost
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.supervisor.waiting import AnyServer
from elastic_hydra.sweeps.clocks import HERE, Clocks
from elastic_hydra.sweeps.state import Shared
from elastic_hydra.sweeps.stop import Order, Stopped

__all__ = ["Agents", "OwnServer", "Servers"]

log = logging.getLogger("elastic_hydra")


class Servers(Protocol):
    """A warm server on each host on which jobs run."""

    @property
    def lost(self) -> bool:
        """Whether they are gone for good, and all agents with them."""

    def on(self, host: str) -> AnyServer:
        """Return the server on a host."""

    def clocks(self, host: str) -> Clocks:
        """Return the clocks of a host."""

    def for_host(self, host: str, attempt: Attempt) -> Attempt:
        """Return an attempt as an agent on a host is to see it."""

    def wait(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, or until somebody asks for something, at most `timeout` seconds; None: for ever."""

    def stop(self, held: Mapping[AnyServer, Sequence[Process]], number: int, shutdown_timeout: float) -> None:
        """End processes: `number` first, SIGKILL for those that are still there after `shutdown_timeout` seconds."""


class OwnServer:
    """The one server on the launcher's own host.

    Args:
        client: of the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def lost(self) -> bool:
        """Whether it has died, and all agents with it."""
        return self._client.lost

    def on(self, _: str) -> Client:
        """Return it."""
        return self._client

    def clocks(self, _: str) -> Clocks:
        """Return this host's clocks."""
        return HERE

    def for_host(self, _: str, attempt: Attempt) -> Attempt:
        """Return an attempt as it is."""
        return attempt

    def wait(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, or until somebody asks for something, at most `timeout` seconds; None: for ever."""
        with contextlib.suppress(ServerLost):  # a lost server has ended all agents
            self._client.wait(lambda: done() or self._client.is_asked(), timeout)

    def stop(self, held: Mapping[AnyServer, Sequence[Process]], number: int, shutdown_timeout: float) -> None:
        """End processes, see `Client.stop`."""
        self._client.stop([process for processes in held.values() for process in processes], number, shutdown_timeout)


@dataclass
class _Agent:
    process: Process
    slot: Slot
    host: Host
    server: AnyServer
    clocks: Clocks
    gpu_memory: Mapping[int, int]
    """Bytes that were in use on the GPUs of its slot, by index, before it started."""


class Agents:
    """Starts agents on servers, waits for their ends, and stops them.

    Args:
        servers: on all hosts.
        hosts: by their names. They may come and go.
        shared: what all agents get.
    """

    def __init__(self, servers: Servers, hosts: Mapping[str, Host], shared: Shared) -> None:
        self._servers = servers
        self._hosts = hosts
        self._shared = shared
        self._agents: dict[int, _Agent] = {}

    @property
    def lost(self) -> bool:
        """Whether all servers have died, and all agents with them."""
        return self._servers.lost

    def start(self, attempt: Attempt, slot: Slot) -> None:
        """Start the agent of an attempt.

        Args:
            attempt: with all that the agent needs to know.
            slot: the job's.

        Raises:
            ServerLost: it could not be started.
        """
        host, server, shared = self._hosts[slot.host], self._servers.on(slot.host), self._shared
        cpus = None if slot.allowance is None else frozenset(slot.allowance.cpus)
        spec = ProcessSpec(None, host.allocator.environment(slot), os.getcwd(), current_umask(), cpus=cpus, agent=True)
        gpu_memory = host.gpu_memory.look(slot)
        clocks = self._servers.clocks(slot.host)
        arguments = (
            self._servers.for_host(slot.host, attempt),
            shared.task,
            shared.context,
            shared.hydra_state,
            list(sys.argv),
        )
        process = server.start(spec, (agent_process.run, arguments))
        self._agents[attempt.job.num] = _Agent(process, slot, host, server, clocks, gpu_memory)

    def wait(self, until: float | None) -> None:
        """Wait until an agent has ended, or somebody asks for something.

        Args:
            until: the latest moment to return at, on the monotonic clock; None: wait for ever.
        """
        timeout = None if until is None else max(0.0, until - time.monotonic())
        self._servers.wait(lambda: bool(self.ended()), timeout)

    def ended(self) -> list[int]:
        """Return the numbers of the jobs whose agents have ended, and are not forgotten yet."""
        return [num for num, agent in self._agents.items() if agent.process.exitcode is not None]

    def process(self, num: int) -> Process:
        """Return the process of a job's agent."""
        return self._agents[num].process

    def leaving(self, num: int) -> Leaving | None:
        """Return what a job whose agent has ended still holds; None: nothing."""
        agent = self._agents[num]
        return agent.host.gpu_memory.left(agent.slot, agent.gpu_memory)

    def clocks(self, num: int) -> Clocks:
        """Return the clocks of a job's host, as the job was told of them."""
        return self._agents[num].clocks

    def forget(self, num: int) -> None:
        """Drop what is kept of an agent that has ended."""
        agent = self._agents.pop(num)
        agent.server.forget([agent.process])

    def kill(self, num: int) -> None:
        """Kill a job's agent; the server then ends the job's workers."""
        self.signal(num, signal.SIGKILL)

    def signal(self, num: int, number: int) -> None:
        """Send a signal to a job's agent."""
        with contextlib.suppress(ServerLost):  # it has ended, then
            self._agents[num].server.signal([self._agents[num].process], number)

    def stop(self, attempts: Sequence[Attempt], order: Order, shutdown_timeout: float) -> None:
        """End all agents: in order, or at once if there is a second signal meanwhile.

        Args:
            attempts: those that run.
            order: what has told the launcher to stop.
            shutdown_timeout: seconds that an agent may need.
        """
        held: dict[AnyServer, list[Process]] = {}
        for agent in (self._agents[attempt.job.num] for attempt in attempts):
            held.setdefault(agent.server, []).append(agent.process)
        jobs = ", ".join(f"#{attempt.job.num}" for attempt in attempts)
        while held:
            try:
                number = order.number
                again = "a second Ctrl-C" if number == signal.SIGINT else "Ctrl-C"
                log.warning("%s: stopping %s; %s kills at once", order, jobs, again)
                wait = shutdown_timeout
                if number not in ENDS:
                    wait += max(attempt.job.launch.keys.checkpoint_timeout for attempt in attempts)
                self._servers.stop(held, number, wait)
                return
            except Stopped as another:  # noqa: PERF203
                order = another.order
            except BaseException:
                self._servers.stop(held, signal.SIGKILL, 0.0)
                raise
