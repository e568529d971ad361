"""The launcher's end of the stream to one host.

::

    coming ──▶ opening ──▶ ready ──▶ doubtful ──▶ ended
    the host    its server   jobs run   silent, or the    nothing of it runs any more, for certain;
    process     starts                  stream is cut     from any state: it said farewell, or never ran a job

What must never happen: two copies of a job. So the processes of a host that is doubtful keep running for whoever looks
at them, until they have ended for certain: the host has said farewell, or its lease (`signs_of_life`) and the time that
it then needs to end everything are over.

Nothing here waits, but for `close`: whoever has connections waits for all of them at once (`supervisor.waiting.wait`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from elastic_hydra import timeouts
from elastic_hydra.hosts.hello import Hello, NoHelloError, take_hello
from elastic_hydra.hosts.signs_of_life import Pings
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import Ended, Transport
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.supervisor import entry, pickles
from elastic_hydra.supervisor.anonymous_files import anonymous_file
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.passing import Pickled
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.protocol import (
    Bye,
    CannotServe,
    Exited,
    Lines,
    Message,
    Open,
    Opened,
    Pong,
    Preload,
    Prepare,
    ProtocolError,
    Refused,
    RemoteStart,
    ResultPart,
    ShutdownTimeout,
    Signal,
    Start,
    Started,
    Told,
)
from elastic_hydra.supervisor.waiting import ServerLost, poll, ready

__all__ = ["HostConnection", "State", "close_all"]


_READS = 64
"""So often a stream is read at most before others have their turn."""

_LOOK_INTERVAL = 0.1
"""Seconds between two looks whether a transport whose stream has ended has ended, too."""

_SHOWN_LINES = 5
"""Of the last lines of a transport in messages."""


class State(Enum):
    """How far a connection is."""

    coming = "coming"
    """The host process has not spoken yet: its host may have to be waited for."""
    opening = "opening"
    """The host process runs, and its warm server starts."""
    ready = "ready"
    """Processes can be started."""
    doubtful = "doubtful"
    """It is lost, but what it had started may still run there."""
    ended = "ended"
    """Nothing of it runs any more."""


class HostConnection:
    """A warm server on another host, with what the launcher uses of `Client` (`supervisor.waiting.AnyServer`).

    Args:
        transport: not open yet.
        wanted: what the server is told.
        heard: takes what comes.

    Raises:
        OSError: the transport cannot be opened.
    """

    def __init__(self, transport: Transport, wanted: Wanted, heard: Heard) -> None:
        self.state = State.coming
        self.hello: Hello | None = None
        """What the host process has said of itself; None: it has not spoken yet."""
        self.reason = ""
        self.environment: Mapping[str, str] = {}
        """The environment of the server: the launcher's, but for what is true of its own host only (`environment`)."""
        self.journal_path = ""
        """Where agents and workers on the host append their events; empty until it is ready."""
        self._transport = transport
        self._wanted = wanted
        self._heard = heard
        self._longest_timeout = wanted.shutdown_timeout
        self._why = ""
        self._processes: dict[int, Process] = {}
        self._ids = 0
        self._pings = Pings(wanted.silence, time.monotonic(), 0.0)
        self._certain_at = 0.0
        self._look_at = 0.0
        """When to look at the transport again, once the stream has ended."""
        self._is_cut = False
        """Whether the stream has ended."""
        self._cut_at = 0.0
        self._is_gone = False
        """Whether the transport has said that the host process has ended."""
        self._is_closing = False
        self._sock = transport.open()
        self._stream = Stream(self._sock.fileno(), self._sock.fileno())

    @property
    def name(self) -> str:
        """The host's name; until it has spoken, that of the way to it."""
        return self._transport.name if self.hello is None else self.hello.host

    @property
    def lost(self) -> bool:
        """Whether nothing can be started on it any more. What it had started may still run if it is `doubtful`."""
        return self.state in (State.doubtful, State.ended)

    @property
    def fate(self) -> str:
        """Why it is lost; empty: it is not."""
        return self._why

    @property
    def clock_offset(self) -> float:
        """The host's monotonic clock minus that of this process, in seconds."""
        return self._pings.offset

    @property
    def wall_offset(self) -> float:
        """The host's clock, in seconds since the epoch, minus that of this process."""
        if self.hello is None:
            return 0.0
        theirs = self.hello.wall - self.hello.monotonic + self._pings.offset
        return theirs - (time.time() - time.monotonic())

    # --- what it is asked for ------------------------------------------------------------------------------------

    def set_shutdown_timeout(self, shutdown_timeout: float) -> None:
        """Say how long what still runs has between SIGTERM and SIGKILL when the connection ends, in seconds."""
        self._longest_timeout = max(self._longest_timeout, shutdown_timeout)
        self._send(ShutdownTimeout(shutdown_timeout))

    def preload(self, names: Iterable[str]) -> None:
        """Have the server import modules, so that the processes that it starts from now on need not."""
        self._send(Preload(tuple(sorted(names))))

    def prepare(self, count: int) -> None:
        """Have so many processes forked ahead: to start one of them is then to say what it shall be."""
        self._send(Prepare(count))

    def start(self, spec: ProcessSpec, payload: entry.Payload | Pickled | None = None) -> Process:
        """Ask for a process.

        Args:
            spec: what to start. Its paths are the host's, and its environment begins with `environment`.
            payload: the function to run, with its arguments; None for a program.

        Raises:
            ServerLost: it is not ready, or not any more.
            ProtocolError: the payload is too long.
        """
        data = b""
        if isinstance(payload, Pickled):
            data = payload.data
        elif payload is not None:
            data = pickles.dumps(payload, self._wanted.shared, self._wanted.load.launcher.names, for_new=True)
        self._send(RemoteStart(Start(self._ids + 1, spec, payload is None), data))
        self._ids += 1
        process = Process(self._ids, anonymous_file("elastic-hydra-result") if payload is not None else -1)
        self._processes[process.id] = process
        return process

    def signal(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to the process groups of those that still run; on a doubtful host nobody hears it."""
        ids = tuple(process.id for process in processes if process.exitcode is None)
        if ids and self.state is State.ready:
            self._send(Signal(ids, int(number)))

    def command(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to those that still run, such that they hear of it even if somebody has stopped them."""
        commanded = list(processes)
        self.signal(commanded, number)
        self.signal(commanded, signal.SIGCONT)

    def forget(self, processes: Iterable[Process]) -> None:
        """Drop what is kept of processes that have ended."""
        for process in processes:
            process.close()
            self._processes.pop(process.id, None)

    def _send(self, message: Message) -> None:
        if self.state is not State.ready:
            raise ServerLost(self._why or f"host {self.name} is not ready yet")
        with contextlib.suppress(EOFError):  # the end of the stream is noticed, and judged, where it is read
            self._stream.send(message)

    # --- waiting -------------------------------------------------------------------------------------------------

    def waits_for(self) -> list[tuple[int, int]]:
        """Return what is to be polled before a `pump`: file descriptors with events; nothing once all is over."""
        if self.state is State.ended:
            return []
        events = [(self._transport.fileno(), select.POLLIN)] if self._transport.fileno() >= 0 else []
        if not self._is_cut:
            behind = self._stream.is_behind and self.state is not State.doubtful
            events.append((self._sock.fileno(), select.POLLIN | (select.POLLOUT if behind else 0)))
        return events

    def next_deadline(self) -> float | None:
        """Return when `pump` is to be called at the latest, on the monotonic clock; None: once there is an event."""
        match self.state:
            case State.coming:
                return self._look_at if self._is_cut else None
            case State.opening | State.ready:
                return self._pings.next_at
            case State.doubtful:
                return min(self._certain_at, self._look_at) if self._is_cut else self._certain_at
        return None

    def pump(self, timeout: float | None = 0.0) -> bool:
        """Take in what has come, after a wait of at most `timeout` seconds; None: until something has.

        Returns:
            whether something has come.

        Raises:
            ServerLost: it has ended, and nothing of it runs any more.
        """
        if self.state is not State.ended:
            if timeout != 0.0:
                poll(self.waits_for(), self._until_deadline(timeout))
            had = self._read()
            self._keep_time(time.monotonic())
        if self.state is State.ended:
            raise ServerLost(self._why)
        return had

    def _until_deadline(self, timeout: float | None) -> float | None:
        if (deadline := self.next_deadline()) is None:
            return timeout
        until = max(0.0, deadline - time.monotonic())
        return until if timeout is None else min(until, timeout)

    def _read(self) -> bool:
        """Take in what has come; write what waits."""
        had = False
        try:
            if not self._is_cut:
                with contextlib.suppress(EOFError):
                    self._stream.flush()
                for _ in range(_READS):
                    if not self._stream.fill():
                        break
                    had = True
        except EOFError:
            self._is_cut = had = True
            self._cut_at = time.monotonic()
        try:
            self._hear_all()
        except (NoHelloError, ProtocolError) as error:
            self._end(f"{self._transport.name}: {error}")
        lines = self._transport.lines()
        if lines and self.hello is not None:
            self._heard.console(lines)
        return had

    def _hear_all(self) -> None:
        if self.hello is None:
            self.hello = take_hello(self._stream.received)
            if self.hello is None:
                return
            self._greet(self.hello)
        while self.state is not State.ended and (message := self._stream.take()) is not None:
            self._hear(message)

    def _greet(self, hello: Hello) -> None:
        """Answer the first words of a host process."""
        if different := hello.differences(Hello.of_this_process()):
            self._end(
                "; ".join(different) + ": both must be the same (hydra.launcher.hosts.python names an interpreter)"
            )
            return
        now, wanted = time.monotonic(), self._wanted
        self.state = State.opening
        self._pings = Pings(wanted.silence, now, hello.monotonic - now)
        opening = Open(os.getcwd(), dict(os.environ), wanted.load, wanted.data, wanted.silence, wanted.shutdown_timeout)
        with contextlib.suppress(EOFError):
            self._stream.send(opening)

    def _hear(self, message: Message) -> None:
        """Note what the host says; it may speak of what is forgotten here."""
        match message:
            case Pong():
                self._pings.hear(message, time.monotonic())
            case Opened(reason, environment, journal):
                self.reason, self.environment, self.journal_path = reason, environment, journal
                self.state = State.ready
            case CannotServe(reason):
                self._end(f"host {self.name} cannot run jobs: {reason}")
            case Lines(data):
                self._heard.lines(data)
            case Told(number):
                self._heard.told(number)
            case Bye(reason):
                self._end(f"host {self.name} has ended: {reason}")
            case Started(id) | Refused(id) | ResultPart(id) | Exited(id):
                if (process := self._processes.get(id)) is not None:
                    self._note(process, message)
            case _:
                raise ProtocolError(f"the host process has sent {type(message).__name__}, which has no place there")

    def _note(self, process: Process, message: Message) -> None:
        """Note what has become of a process."""
        match message:
            case Started(_, pid):
                process.pid = pid
            case ResultPart(_, data):
                with open(process.result_fd, "ab", closefd=False) as file:
                    file.write(data)
            case Exited(_, code, exit_time):
                process.exitcode, process.exit_time = code, exit_time - self.wall_offset
            case Refused(_, reason):
                process.refused, process.exitcode, process.exit_time = reason, 1, time.time()

    # --- its end -------------------------------------------------------------------------------------------------

    def _keep_time(self, now: float) -> None:
        """Do what the clock, or the end of the stream, says."""
        if self._is_closing:
            if self._is_cut:
                self._end("this process has closed the connection")
        elif self.state is State.coming:
            self._look_whether_it_comes(now)
        elif self.state in (State.opening, State.ready):
            if self._is_cut:
                self._doubt("its stream has ended without a farewell", now)
            elif now >= self._pings.silent_at:
                self._doubt(f"no sign of life for {self._wanted.silence:g} s (hydra.launcher.hosts.silence)", now)
            elif (ping := self._pings.due(now)) is not None:
                with contextlib.suppress(EOFError):
                    self._stream.send(ping, urgent=True)
        if self.state is State.doubtful:
            self._look_whether_it_is_certain(now)

    def _look_whether_it_comes(self, now: float) -> None:
        """Notice that the transport has ended before a host process has spoken."""
        ended = self._transport.ended()
        if ended is None and (not self._is_cut or now < self._cut_at + timeouts.TRANSPORT):
            self._look_at = now + _LOOK_INTERVAL
            return
        how = "it has closed its standard output" if ended is None else _in_words(ended)
        self._end(f"{self._transport.name} has not started a host process: {how}")

    def _doubt(self, why: str, now: float) -> None:
        """Give the host up; what it had started may still run."""
        self.state = State.doubtful
        self._why = f"host {self.name} was lost: {why}"
        self._certain_at = self._pings.last_answer + self._wanted.silence + self._time_to_end()
        self._look_at = now
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)  # should it be there again, it ends at once, and says so
        if not self._has_running():
            self._end(self._why)

    def _look_whether_it_is_certain(self, now: float) -> None:
        if self._is_cut and now >= self._look_at:
            self._look_at = now + _LOOK_INTERVAL
            ended = self._transport.ended()
            if ended is not None and ended.host_is_gone and not self._is_gone:
                self._is_gone = True
                self._certain_at = min(self._certain_at, now + self._time_to_end())
        if now >= self._certain_at:
            self._end(self._why)

    def _time_to_end(self) -> float:
        """Return how long a host that ends everything takes for that, in seconds."""
        return self._longest_timeout + timeouts.HOST_MARGIN

    def _has_running(self) -> bool:
        return any(process.exitcode is None for process in self._processes.values())

    def _end(self, why: str) -> None:
        """Note that nothing runs there any more."""
        if self.state is State.ended:
            return
        if self._is_cut and (ended := self._transport.ended()) is not None and self.state is State.doubtful:
            why = f"{why} ({_in_words(ended)})"
        self.state, self._why = State.ended, why
        self._transport.kill()
        if (lines := self._transport.lines()) and self.hello is not None:
            self._heard.console(lines)
        self._sock.close()
        for process in self._processes.values():
            if process.exitcode is None:
                process.exitcode, process.exit_time, process.fate = -signal.SIGKILL, time.time(), why

    def begin_closing(self) -> None:
        """Have the host end everything; `pump` notices when it has."""
        self._is_closing = True
        if self.state in (State.coming, State.doubtful):
            self._end(self._why or "it was not needed any more")
        elif self.state is not State.ended:
            with contextlib.suppress(EOFError):
                self._stream.send(Bye("the launcher needs it no more"))

    def close(self) -> None:
        """End the connection, and with it all that was started through it."""
        close_all([self])

    def finish_closing(self) -> None:
        """Release all that is held here, whether or not the host has ended."""
        self._end("it has not ended in time")
        self.forget(list(self._processes.values()))

    def time_to_close(self) -> float:
        """Return how long the host takes to end, in seconds."""
        ending = timeouts.end_of_server(self._longest_timeout) if self._has_running() else timeouts.REMAINS
        return ending + timeouts.HOST_FAREWELL


def close_all(connections: Sequence[HostConnection]) -> None:
    """End connections to hosts, all at once, and with them all that was started through them."""
    for connection in connections:
        connection.begin_closing()
    until = time.monotonic() + max((connection.time_to_close() for connection in connections), default=0.0)
    while (open_ones := [each for each in connections if each.state is not State.ended]) and time.monotonic() < until:
        ready([event for each in open_ones for event in each.waits_for()], max(0.0, until - time.monotonic()))
        for connection in open_ones:
            with contextlib.suppress(ServerLost):
                connection.pump()
    for connection in connections:
        connection.finish_closing()


def _in_words(ended: Ended) -> str:
    how = f"it ended with exit code {ended.code}" if ended.code >= 0 else f"signal {-ended.code} killed it"
    said = " | ".join(line.strip() for line in ended.last_lines[-_SHOWN_LINES:] if line.strip())
    return f"{how}, and said: {said}" if said else f"{how}, and said nothing"
