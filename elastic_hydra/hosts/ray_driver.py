"""The Ray driver of a launcher: the one process of it that knows Ray, and through which the bytes of its hosts pass.

::

    launcher ── control socket ──▶ driver                                   a node of Ray's
      RayTransport ══ socket pair ══ relay ══ TCP, begun by a token ══ actor ══ host process

The launcher itself does not import Ray, which starts threads and changes how signals are handled. It sends one message
for each host, with three files: its stream, its console, and a socket for words about that host, which the launcher
closes when it wants the host no more.

Who dies with whom: when the control socket ends, which is standard input, the driver waits for its hosts to end in
order, and ends. Actors end with the driver, since none is detached; then their host processes see the end of their
streams.

What must never happen: that a host counts as gone while its processes run. The driver says so only if the host process
was never started, or if its console has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil
import ray

from elastic_hydra import timeouts
from elastic_hydra.hosts.ray_actor import CHUNK, GO, Order
from elastic_hydra.hosts.ray_cluster import Demand, connect, in_words
from elastic_hydra.hosts.ray_door import Door
from elastic_hydra.supervisor import orphans

__all__ = ["main"]

_LONGEST = 1 << 17
"""Bytes of a message on the control socket."""


class _Actor(NamedTuple):
    """An actor that has arrived."""

    run: asyncio.Future[None]
    """Done when the actor's work is: its exception says why it has died."""
    stream: socket.socket
    console: socket.socket


@dataclass
class _Host:
    """One host, as long as the launcher wants it."""

    request: Mapping[str, Any]
    stream: socket.socket
    console: socket.socket
    word: socket.socket

    async def live(self, door: asyncio.Future[Door]) -> None:
        """Have the host process started, carry its bytes, and tell how it has ended."""
        dismissed = asyncio.create_task(_read_to_end(self.word))
        with self.stream, self.console, self.word:
            try:
                await self._run(await asyncio.shield(door), dismissed)
            except Exception as error:
                await self._say(in_words(error), is_gone=True)
            finally:
                dismissed.cancel()

    async def _run(self, door: Door, dismissed: asyncio.Task[None]) -> None:
        """Run the actor, and the host process as soon as the actor arrives.

        Raises:
            Exception: the host process was not started.
        """
        demand = Demand.complete(self.request["cpus"], self.request["gpus"], self.request["resources"])
        if (obstacle := demand.obstacle()) is not None:
            await asyncio.get_running_loop().sock_sendall(self.console, f"{obstacle}\n".encode())
        with door.expecting() as stream, door.expecting() as console:
            actor = demand.actor()
            try:
                argv, has_gpus = self.request["argv"], demand.gpus > 0
                order = Order(door.address, stream.token, console.token, argv, has_gpus)
                run = _future_of(actor.run.remote(order))
                arrivals = asyncio.create_task(_all_of(stream.arrival, console.arrival))
                await _first_of(run, arrivals, dismissed)
                arrivals.cancel()
                if run.done():
                    run.result()
                    raise RuntimeError("the actor has ended at its start")
                if not dismissed.done():
                    await self._serve(_Actor(run, stream.arrival.result(), console.arrival.result()), dismissed)
            finally:
                ray.kill(actor)

    async def _serve(self, actor: _Actor, dismissed: asyncio.Task[None]) -> None:
        """Let the host process start, and carry its bytes until it has ended."""
        console = asyncio.create_task(self._carry_console(actor.console))
        to_host = asyncio.create_task(_carry(self.stream, actor.stream))
        from_host = asyncio.create_task(_carry(actor.stream, self.stream))
        broken = asyncio.create_task(_all_of(actor.run, from_host))
        await _first_of(console, broken, dismissed)
        if not console.done() and broken.done():
            await self._say(_why(actor.run), is_gone=False)
            await _first_of(console, dismissed)
        if dismissed.done():
            with contextlib.suppress(OSError):
                actor.stream.shutdown(socket.SHUT_RDWR)
            # Ray gives what the host holds to somebody else only when the host process has ended.
            await _first_of(console, actor.run)
        else:
            # The node's word comes later than the end of what the host process has held open there.
            await asyncio.wait([broken], timeout=timeouts.RAY_REASON)
            await self._say(_why(actor.run), is_gone=console.result())
        for task in (console, to_host, from_host, broken):
            task.cancel()

    async def _carry_console(self, console: socket.socket) -> bool:
        """Let the host process start, carry its console, and return whether that has ended with the host process."""
        try:
            await asyncio.get_running_loop().sock_sendall(console, GO)
        except OSError:
            return False
        return await _carry(console, self.console)

    async def _say(self, why: str, *, is_gone: bool) -> None:
        word = json.dumps({"why": why, "host_is_gone": is_gone}).encode()
        with contextlib.suppress(OSError):  # nobody wants to know
            await asyncio.get_running_loop().sock_sendall(self.word, word)


async def _first_of(*events: asyncio.Future[Any]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)


async def _all_of(*events: asyncio.Future[Any]) -> None:
    """Wait until all of them are done, however."""
    await asyncio.wait(events)


def _future_of(reference: Any) -> asyncio.Future[None]:
    return asyncio.wrap_future(reference.future())


def _why(run: asyncio.Future[None]) -> str:
    """Say why an actor's work has ended."""
    if not run.done():
        return "the host process has closed its connections"
    error = run.exception()
    return "the host process has ended" if error is None else in_words(error)


async def _carry(source: socket.socket, target: socket.socket) -> bool:
    """Carry bytes until the source ends, end the target, and return whether the source has ended as it should."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, CHUNK):
            with contextlib.suppress(OSError):  # nobody listens any more; the end of the source still matters
                await loop.sock_sendall(target, data)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
    return True


async def _read_to_end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(sock, 1):
            pass


class _Driver:
    """Takes requests for hosts until the control socket ends."""

    def __init__(self, control: socket.socket, address: str) -> None:
        control.setblocking(False)
        self._control = control
        self._door = asyncio.ensure_future(self._open_door(address))
        self._hosts: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def _open_door(self, address: str) -> Door:
        return Door(await asyncio.to_thread(connect, address))

    async def serve(self) -> None:
        """Serve until the launcher is gone and its hosts have ended."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control, self._take)
        await self._ended.wait()
        loop.remove_reader(self._control)
        if self._hosts:
            await asyncio.wait(self._hosts, timeout=timeouts.RAY_HOSTS)

    def _take(self) -> None:
        """Take in a request."""
        message, files, _, _ = socket.recv_fds(self._control, _LONGEST, 3)
        if not message:
            self._ended.set()
            return
        ends = [socket.socket(fileno=fd) for fd in files]
        for end in ends:
            end.setblocking(False)
        host = asyncio.create_task(_Host(json.loads(message), *ends).live(self._door))
        self._hosts.add(host)
        host.add_done_callback(self._hosts.discard)


async def _serve(control: socket.socket, address: str) -> None:
    await _Driver(control, address).serve()


def main(argv: list[str]) -> None:
    """Serve the launcher whose control socket is standard input.

    Args:
        argv: the address of the cluster.
    """
    control = socket.socket(fileno=os.dup(0))
    orphans.adopt_orphans()
    asyncio.run(_serve(control, argv[0]))
    ray.shutdown()
    # Of a cluster that ends with this process, Ray leaves parts behind, which would look for it for a minute.
    remains = psutil.Process().children(recursive=True)
    orphans.kill(remains)
    psutil.wait_procs(remains, timeout=timeouts.REMAINS)
