"""The agent processes of the jobs that run, as the launcher sees them: one for each node of a job."""

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

    An agent is known by the number of its job and the rank of its node, which is 0 where the job has one node.

    Args:
        servers: on all hosts.
        hosts: by their names. They may come and go.
        shared: what all agents get.
    """

    def __init__(self, servers: Servers, hosts: Mapping[str, Host], shared: Shared) -> None:
        self._servers = servers
        self._hosts = hosts
        self._shared = shared
        self._agents: dict[tuple[int, int], _Agent] = {}

    @property
    def lost(self) -> bool:
        """Whether all servers have died, and all agents with them."""
        return self._servers.lost

    def start(self, attempts: Sequence[Attempt], slots: Sequence[Slot], first_rank: int = 0) -> None:
        """Start agents of an attempt.

        Args:
            attempts: the attempt as each of them is to see it, in the order of node ranks.
            slots: of their nodes, in the same order.
            first_rank: of these nodes.

        Raises:
            ServerLost: one could not be started, and none was.
        """
        for slot in slots[1:]:  # none is started before it is known that all can be
            if self._servers.on(slot.host).lost:
                raise ServerLost(f"host {slot.host} was lost")
        for rank, (attempt, slot) in enumerate(zip(attempts, slots, strict=True), first_rank):
            self._start(attempt, slot, rank)

    def _start(self, attempt: Attempt, slot: Slot, rank: int) -> None:
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
        self._agents[attempt.job.num, rank] = _Agent(process, slot, host, server, clocks, gpu_memory)

    def wait(self, until: float | None) -> None:
        """Wait until an agent has ended, or somebody asks for something.

        Args:
            until: the latest moment to return at, on the monotonic clock; None: wait for ever.
        """
        timeout = None if until is None else max(0.0, until - time.monotonic())
        self._servers.wait(lambda: bool(self.ended()), timeout)

    def ended(self) -> list[tuple[int, int]]:
        """Return the agents that have ended, and are not forgotten yet: job's number and node's rank."""
        return [of for of, agent in self._agents.items() if agent.process.exitcode is not None]

    def process(self, num: int, rank: int = 0) -> Process:
        """Return the process of an agent."""
        return self._agents[num, rank].process

    def leaving(self, num: int, rank: int = 0) -> Leaving | None:
        """Return what an agent that has ended still holds; None: nothing."""
        agent = self._agents[num, rank]
        return agent.host.gpu_memory.left(agent.slot, agent.gpu_memory)

    def clocks(self, num: int, rank: int = 0) -> Clocks:
        """Return the clocks of an agent's host, as the agent was told of them."""
        return self._agents[num, rank].clocks

    def forget(self, num: int, rank: int = 0) -> None:
        """Drop what is kept of an agent that has ended."""
        agent = self._agents.pop((num, rank))
        agent.server.forget([agent.process])

    def kill(self, num: int) -> None:
        """Kill a job's agents; their servers then end the job's workers."""
        self.signal(num, signal.SIGKILL)

    def signal(self, num: int, number: int, host: str | None = None) -> None:
        """Send a signal to a job's agents that have not ended.

        Args:
            num: the job.
            number: of the signal.
            host: only to the one on this host; None: to all.
        """
        for (of, rank), agent in self._agents.items():
            if of == num and host in (None, agent.slot.host):
                self._send(num, rank, number)

    def _send(self, num: int, rank: int, number: int) -> None:
        agent = self._agents[num, rank]
        with contextlib.suppress(ServerLost):  # it has ended, then
            agent.server.signal([agent.process], number)

    def stop(self, attempts: Sequence[Attempt], order: Order, shutdown_timeout: float) -> None:
        """End all agents: in order, or at once if there is a second signal meanwhile.

        Args:
            attempts: those that run.
            order: what has told the launcher to stop.
            shutdown_timeout: seconds that an agent may need.
        """
        held: dict[AnyServer, list[Process]] = {}
        for agent in self._agents.values():
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
