"""Hosts that one process plays: they answer like host processes, and their jobs only take their time.

As an engine: `hydra.launcher.hosts.engine=tests.benchmarks.simulated_hosts`. As a program: the process that plays them,
`python -m tests.benchmarks.simulated_hosts SOCKET FOLDER SECONDS`, with the sweep's folder and the time of each job.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.hello import Hello
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import Ended
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.resources.examine import Examined, examine
from elastic_hydra.supervisor import outcome
from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.supervisor.protocol import Bye, Exited, Open, Opened, Ping, Pong, RemoteStart, ResultPart, Started

SOCKET = "SIMULATED_HOSTS"
"""Environment variable of the launcher: where the process listens that plays the hosts."""


# --- in the launcher -------------------------------------------------------------------------------------------------


class SimulatedHost:
    """The way to one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> socket.socket:
        """Connect to the process that plays it."""
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(os.environ[SOCKET])
        return ours

    def fileno(self) -> int:
        """It writes no lines."""
        return -1

    def lines(self) -> list[str]:
        """It writes no lines."""
        return []

    def ended(self) -> Ended | None:
        """It does not end by itself."""
        return None

    def kill(self) -> None:
        """The end of the stream is its end."""


class SimulatedHosts:
    """As many as `hosts.max` says."""

    is_elastic = False

    def __init__(self, count: int) -> None:
        self._count = count

    def places(self) -> Sequence[str]:
        """Return their names."""
        return [f"s{number}" for number in range(self._count)]

    def transport(self, place: str) -> SimulatedHost:
        """Return the way to one."""
        return SimulatedHost(place)


def engine(keys: HostsConfig) -> SimulatedHosts:
    """Return the hosts."""
    return SimulatedHosts(keys.max or 1)


# --- in the process that plays them ----------------------------------------------------------------------------------


class Played:
    """A host: the first process that is asked for examines it, all others are agents whose jobs finish."""

    def __init__(self, sock: socket.socket, folder: Path, seconds: float) -> None:
        self._sock = sock
        self._folder = folder
        self._seconds = seconds
        self._stream = Stream(sock.fileno(), sock.fileno())
        self._is_examined = False
        self._running: deque[tuple[float, int]] = deque()
        self._stream.write(Hello.of_this_process().line())

    @property
    def next_end(self) -> float:
        """When a job of it ends next."""
        return self._running[0][0] if self._running else float("inf")

    def serve(self) -> bool:
        """Answer; return whether the host goes on."""
        try:
            self._stream.fill()
            while (message := self._stream.take()) is not None:
                if isinstance(message, Open):
                    self._stream.send(Opened("simulated", dict(message.environment), os.devnull))
                elif isinstance(message, Ping):
                    awake = time.clock_gettime(time.CLOCK_BOOTTIME)
                    self._stream.send(Pong(message.sent, time.monotonic(), awake), urgent=True)
                elif isinstance(message, RemoteStart):
                    self._start(message.start.id)
                elif isinstance(message, Bye):
                    raise EOFError
        except EOFError:
            self._stream.send(Bye("it was told to"))
            self._sock.close()
            return False
        return True

    def _start(self, number: int) -> None:
        self._stream.send(Started(number, os.getpid()))
        if not self._is_examined:
            self._is_examined = True
            self._end(number, _examined(self._folder))
        else:
            self._running.append((time.monotonic() + self._seconds, number))

    def end_jobs(self, now: float) -> None:
        """End the jobs whose time is over."""
        while self.next_end <= now:
            returned = JobReturn(status=JobStatus.COMPLETED)
            returned.return_value = 1.0
            self._end(self._running.popleft()[1], AttemptEnd(returned))

    def _end(self, number: int, value: object) -> None:
        file = anonymous_file("outcome")
        outcome.write(file, Outcome(value=value))
        self._stream.send(ResultPart(number, os.pread(file, 1 << 24, 0)))
        os.close(file)
        self._stream.send(Exited(number, 0, time.time()))


@functools.cache
def _examined(folder: Path) -> Examined:
    (token,) = folder.glob(".host_check*")
    return examine(str(token), lambda _: None)


def main(path: str, folder: str, seconds: str) -> None:
    """Play hosts until somebody ends this process."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1000)
    polled, hosts = select.epoll(), dict[int, Played]()
    polled.register(listener, select.EPOLLIN)
    while True:
        first = min((host.next_end for host in hosts.values()), default=float("inf"))
        now = time.monotonic()
        for fd, _ in polled.poll(-1 if first == float("inf") else max(0.0, first - now)):
            if fd == listener.fileno():
                sock, _ = listener.accept()
                hosts[sock.fileno()] = Played(sock, Path(folder), float(seconds))
                polled.register(sock, select.EPOLLIN)
            elif not hosts[fd].serve():
                del hosts[fd]  # epoll forgets it by itself
        for host in hosts.values():
            host.end_jobs(time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
