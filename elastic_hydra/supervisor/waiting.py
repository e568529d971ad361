"""Waiting for several things at once: servers on one host or on many, signals, and requests of others."""

from __future__ import annotations

import contextlib
import math
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from elastic_hydra import timeouts
from elastic_hydra.supervisor import entry, signal_queue
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.passing import Pickled
from elastic_hydra.supervisor.process import Process

__all__ = ["AnyServer", "Listener", "ServerLost", "poll", "ready", "stop", "wait"]


class ServerLost(RuntimeError):
    """A server is gone, and nothing runs any more of what it had started."""


class Listener(Protocol):
    """Takes requests of others, which have their effect later: nothing may be done while a message is read."""

    def fileno(self) -> int:
        """Return what becomes readable when there is something to `serve`."""

    def serve(self) -> None:
        """Take in what has come, without waiting for anybody."""

    @property
    def has_requests(self) -> bool:
        """Whether requests wait to be taken."""


class AnyServer(Protocol):
    """A warm server as its client sees it, on this host (`Client`) or on another one."""

    @property
    def lost(self) -> bool:
        """Whether nothing can be started on it any more.

        On another host, what it had started may still run for a while: until the processes have an exit code.
        """

    @property
    def reason(self) -> str:
        """How it came to be, in words."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which it has started."""

    def set_shutdown_timeout(self, shutdown_timeout: float) -> None:
        """Say how long what still runs has between SIGTERM and SIGKILL when the connection ends, in seconds."""

    def preload(self, names: Iterable[str]) -> None:
        """Have it import modules, so that the processes that it starts from now on need not."""

    def prepare(self, count: int) -> None:
        """Have so many processes forked ahead."""

    def start(self, spec: ProcessSpec, payload: entry.Payload | Pickled | None = None) -> Process:
        """Ask for a process; see `Client.start`."""

    def signal(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to those that still run."""

    def command(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to those that still run, such that they hear of it even if somebody has stopped them."""

    def forget(self, processes: Iterable[Process]) -> None:
        """Drop what is kept of processes that have ended."""

    def waits_for(self) -> Sequence[tuple[int, int]]:
        """Return what is to be polled before a `pump`: file descriptors with events; nothing once all is over."""

    def next_deadline(self) -> float | None:
        """Return when `pump` is to be called at the latest, on the monotonic clock; None: once there is an event."""

    def pump(self, timeout: float | None = 0.0) -> bool:
        """Take in what has come, after a wait of `timeout` seconds; see `Client.pump`.

        Raises:
            ServerLost: it is gone, and nothing runs any more of what it had started.
        """

    def close(self) -> None:
        """End the connection, and with it all that was started through it."""


def ready(events: Iterable[tuple[int, int]], timeout: float | None) -> set[int]:
    """Wait until something can be done, and return the file descriptors.

    Args:
        events: file descriptors, each with the events of `select.poll`.
        timeout: seconds; None waits for ever.
    """
    polled = select.poll()
    for fd, mask in events:
        polled.register(fd, mask)
    return {fd for fd, _ in polled.poll(None if timeout is None else timeout * 1000.0)}


def poll(events: Iterable[tuple[int, int]], timeout: float | None, listener: Listener | None = None) -> set[int]:
    """Do what `ready` does, and serve a listener meanwhile; a signal raises its exception here."""
    all_events = list(events)
    if (queue := signal_queue.in_use()) is not None:
        all_events.append((queue.fileno(), select.POLLIN))
    if listener is not None:
        all_events.append((listener.fileno(), select.POLLIN))
    found = ready(all_events, timeout)
    if queue is not None:
        queue.check_after_wait()
    if listener is not None and listener.fileno() in found:
        listener.serve()
    return found


def wait(
    servers: Sequence[AnyServer],
    done: Callable[[], bool],
    timeout: float | None = None,
    listener: Listener | None = None,
) -> bool:
    """Wait for an event of any server's processes that makes `done()` true.

    Args:
        servers: on any hosts; one that is lost does not end the wait.
        done: looked at first, and after every event.
        timeout: seconds; None waits for ever, or until no server is left.
        listener: is served meanwhile.

    Returns:
        whether it is true.
    """
    until = None if timeout is None else time.monotonic() + timeout
    while not done():
        events = {server: server.waits_for() for server in servers}
        deadlines = {server: deadline for server in servers if (deadline := server.next_deadline()) is not None}
        times = [*deadlines.values(), *([] if until is None else [until])]
        if not times and not any(events.values()):
            return False
        first = max(0.0, min(times) - time.monotonic()) if times else None
        found = poll((event for each in events.values() for event in each), first, listener)
        now = time.monotonic()
        for server in servers:
            if any(fd in found for fd, _ in events[server]) or deadlines.get(server, math.inf) <= now:
                with contextlib.suppress(ServerLost):  # its processes have ended, then
                    server.pump()
        if until is not None and now >= until:
            return done()
    return True


def stop(
    held: Mapping[AnyServer, Sequence[Process]],
    number: int,
    shutdown_timeout: float,
    listener: Listener | None = None,
) -> list[Process]:
    """End processes on several servers at once: `number` first, SIGKILL for those that are still there then.

    Args:
        held: which processes, by their servers.
        number: of the signal.
        shutdown_timeout: seconds until SIGKILL.
        listener: is served meanwhile.

    Returns:
        those that did not die of that either: stuck in the kernel, or on a host that is silent.
    """
    processes = [process for each in held.values() for process in each]
    for order, patience in ((number, shutdown_timeout), (signal.SIGKILL, timeouts.AFTER_SIGKILL)):
        for server, its in held.items():
            with contextlib.suppress(ServerLost):
                server.command(its, order)
        if wait(list(held), lambda: all(process.exitcode is not None for process in processes), patience, listener):
            break
    return [process for process in processes if process.exitcode is None]
