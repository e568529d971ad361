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

import logging
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from elastic_hydra import timeouts
from elastic_hydra.hosts.hello import Hello, NoHelloError, take_hello
from elastic_hydra.hosts.link import Link
from elastic_hydra.hosts.processes import RemoteProcesses
from elastic_hydra.hosts.transport import Transport
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.journal.host_record import HostRecord
from elastic_hydra.supervisor import entry, pickles
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

log = logging.getLogger("elastic_hydra")


_BY_ITSELF = 0.5
"""Seconds that what leads to hosts has to end after the host processes."""


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
        record: is there as long as something may run on the host; None: nobody else needs to know.
        patience: seconds within which the host process must speak; None: its host may be waited for in a queue.

    Raises:
        OSError: the transport cannot be opened.
    """

    def __init__(
        self,
        transport: Transport,
        wanted: Wanted,
        heard: Heard,
        record: HostRecord | None = None,
        patience: float | None = None,
    ) -> None:
        self.state = State.coming
        self.hello: Hello | None = None
        """What the host process has said of itself; None: it has not spoken yet."""
        self.fate = ""
        """Why it is lost, or has ended; empty: it is not."""
        self.refuses = False
        """Whether the host has said, or shown, that it cannot run jobs for this process, now or later."""
        self.reason = ""
        self.environment: Mapping[str, str] = {}
        """The environment of the server: the launcher's, but for what is true of its own host only (`environment`)."""
        self.journal_path = ""
        """Where agents and workers on the host append their events; empty until it is ready."""
        self._wanted = wanted
        self._heard = heard
        self._record = record
        self._longest_timeout = wanted.shutdown_timeout
        self._processes = RemoteProcesses()
        self._certain_at = math.inf
        """When nothing of a doubtful host can run any more."""
        self._patience = patience
        self._speak_by = None if patience is None else time.monotonic() + patience
        self._close_by: float | None = None
        """When it must have ended, since it was told to; None: it was not."""
        self.link = Link(transport, wanted.silence)
        """For the thread of `KeepAlive`."""

    @property
    def name(self) -> str:
        """The host's name; until it has spoken, that of the way to it."""
        return self.link.transport.name if self.hello is None else self.hello.host

    @property
    def lost(self) -> bool:
        """Whether nothing can be started on it any more. What it had started may still run if it is `doubtful`."""
        return self.state in (State.doubtful, State.ended)

    @property
    def is_ready(self) -> bool:
        """Whether processes can be started there: it is neither on its way, nor lost, nor was it told to end."""
        return self.state is State.ready and self._close_by is None

    @property
    def certain_at(self) -> float:
        """When nothing can run any more on a doubtful host, on the monotonic clock; it may be known earlier."""
        return self._certain_at

    @property
    def clock_offset(self) -> float:
        """The host's monotonic clock minus that of this process, in seconds."""
        return self.link.pings.offset

    @property
    def wall_offset(self) -> float:
        """The host's clock, in seconds since the epoch, minus that of this process."""
        if self.hello is None:
            return 0.0
        theirs = self.hello.wall - self.hello.monotonic + self.link.pings.offset
        return theirs - (time.time() - time.monotonic())

    # --- what it is asked for ------------------------------------------------------------------------------------

    def set_shutdown_timeout(self, shutdown_timeout: float) -> None:
        """Say how long what still runs has between SIGTERM and SIGKILL when the connection ends, in seconds."""
        before, self._longest_timeout = self._longest_timeout, max(self._longest_timeout, shutdown_timeout)
        try:
            self._note()
        except OSError as error:  # launchers that come after this process would not wait for so long
            self._longest_timeout = before
            log.warning("host %s: what runs there has no more than %g s to end: %s", self.name, before, error)
        else:
            self._ask(ShutdownTimeout(shutdown_timeout))

    def preload(self, names: Iterable[str]) -> None:
        """Have the server import modules, so that the processes that it starts from now on need not."""
        self._ask(Preload(tuple(sorted(names))))

    def prepare(self, count: int) -> None:
        """Have so many processes forked ahead: to start one of them is then to say what it shall be."""
        self._ask(Prepare(count))

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
        process = self._processes.add(is_program=payload is None)
        try:
            self._ask(RemoteStart(Start(process.id, spec, payload is None), data))
        except BaseException:
            self.forget([process])
            raise
        return process

    def signal(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to the process groups of those that still run; on a doubtful host nobody hears it."""
        ids = tuple(process.id for process in processes if process.exitcode is None)
        if ids and self.is_ready:
            self._ask(Signal(ids, int(number)))

    def command(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to those that still run, such that they hear of it even if somebody has stopped them."""
        commanded = list(processes)
        self.signal(commanded, number)
        self.signal(commanded, signal.SIGCONT)

    def forget(self, processes: Iterable[Process]) -> None:
        """Drop what is kept of processes that have ended."""
        self._processes.forget(processes)

    def _ask(self, message: Message) -> None:
        if not self.is_ready:
            raise ServerLost(self.fate or f"host {self.name} is not ready yet, or not any more")
        self.link.send(message)

    # --- waiting -------------------------------------------------------------------------------------------------

    def waits_for(self) -> list[tuple[int, int]]:
        """Return what is to be polled before a `pump`: file descriptors with events; nothing once all is over."""
        return [] if self.state is State.ended else self.link.events()

    def next_deadline(self) -> float | None:
        """Return when `pump` is to be called at the latest, on the monotonic clock; None: once there is an event."""
        times = [self.link.next_look(), self._speak_by if self.state is State.coming else None]
        if self.state in (State.opening, State.ready):
            times.append(self.link.pings.next_at if self._close_by is None else self._close_by)
        elif self.state is State.doubtful:
            times.append(self._certain_at)
        return None if self.state is State.ended else min((time for time in times if time is not None), default=None)

    def pump(self, timeout: float | None = 0.0) -> bool:
        """Take in what has come, after a wait of at most `timeout` seconds; None: until something has.

        Returns:
            whether something has come.

        Raises:
            ServerLost: it has ended, and nothing of it runs any more.
        """
        if timeout != 0.0 and self.state is not State.ended:
            deadline = self.next_deadline()
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            timeout = min(left, math.inf if timeout is None else timeout)
            poll(self.waits_for(), None if timeout == math.inf else timeout)
        had = self.take_in()
        if self.state is State.ended:
            self.release()
            raise ServerLost(self.fate)
        return had

    def take_in(self) -> bool:
        """Do what `pump` does, but wait neither for an event nor for the end of the way to a host that has ended."""
        had = False
        if self.state is not State.ended:
            had = self.link.read()
            self._hear_all()
            self._keep_time(time.monotonic())
        return had

    # --- what comes from the host --------------------------------------------------------------------------------

    def _hear_all(self) -> None:
        try:
            if self.hello is None:
                self._greet()
            while self.hello is not None and not self._has_ended() and (message := self.link.take()) is not None:
                self._hear(message)
        except NoHelloError as error:
            self._end(f"{self.link.transport.name}: {error}")
        except ProtocolError as error:  # what runs there does not know of it
            self.link.stop_reading()
            if self.state is not State.doubtful:
                self._doubt(str(error))
        self._show_lines()

    def _show_lines(self) -> None:
        lines = self.link.lines()
        if lines and self.hello is not None:
            self._heard.console(lines)

    def _greet(self) -> None:
        """Answer the first words of a host process, once they are there."""
        self.hello = hello = take_hello(self.link.received)
        if hello is None:
            return
        if different := hello.differences(Hello.of_this_process()):
            all_of_them, self.refuses = "; ".join(different), True
            self._end(f"{all_of_them}: both must be the same (hydra.launcher.hosts.python names an interpreter)")
            return
        try:
            self._note()
        except OSError as error:
            self._end(f"host {self.name}: that jobs run there cannot be noted for other launchers: {error}")
            return
        wanted, here, environment = self._wanted, os.getcwd(), dict(os.environ)
        record = "" if self._record is None else self._record.path
        first = Open(here, environment, wanted.load, wanted.data, wanted.silence, wanted.shutdown_timeout, record)
        self.state = State.opening
        self.link.greet(first, hello.monotonic - time.monotonic())

    def _note(self) -> None:
        """Note for launchers that come after this process how long the host may live without it."""
        if self._record is not None:
            self._record.write(self.name, self._wanted.silence + self._time_to_end())

    def _hear(self, message: Message) -> None:
        """Note what the host says."""
        match message:
            case Started() | Refused() | ResultPart() | Exited():
                self._processes.note(message, self.wall_offset)
            case Lines(data):
                self._heard.lines(data)
            case Told(number):
                self._heard.told(number)
            case Opened(reason, environment, journal):
                self.reason, self.environment, self.journal_path = reason, environment, journal
                self.link.pings.last_answer = time.monotonic()  # the lease of the host has begun before
                if self.state is State.opening:
                    self.state = State.ready
            case CannotServe(reason):
                self.refuses = True
                self._end(f"host {self.name} cannot run jobs: {reason}")
            case Bye(reason):
                which = f"{self.fate}; it" if self.fate else f"host {self.name}"
                self._end(f"{which} has ended: {reason}")
            case _:
                raise ProtocolError(f"the host process has sent {type(message).__name__}, which has no place there")

    # --- its end -------------------------------------------------------------------------------------------------

    def _keep_time(self, now: float) -> None:
        """Do what the clock, or the end of the stream, says."""
        is_cut = self.link.cut_at is not None
        if self.state is State.coming:
            if said := self.link.end_in_words(now):
                self._end(f"{self.name} has not started a host process: {said}")
            elif self._speak_by is not None and now >= self._speak_by:
                self._end(f"{self.name} has not started a host process within {self._patience:g} s")
        elif self.state in (State.opening, State.ready):
            if is_cut:
                self._doubt("its stream has ended without a farewell")
            elif self._close_by is not None:
                if now >= self._close_by:
                    self._doubt("it was told to end, and has not said that it has")
            elif now >= self.link.pings.silent_at:
                self._doubt(f"no sign of life for {self._wanted.silence:g} s (hydra.launcher.hosts.silence)")
            else:
                self.link.send_ping(now)
        if self.state is State.doubtful:
            self._look_whether_it_is_certain(now)

    def _doubt(self, why: str) -> None:
        """Give the host up; what it had started may still run."""
        self.state, self.fate = State.doubtful, f"host {self.name} was lost: {why}"
        self.link.stop_writing()  # should it be there again, it ends everything at once, and says so
        self._certain_at = self.link.pings.silent_at + self._time_to_end()  # no ping prolongs its lease any more

    def _look_whether_it_is_certain(self, now: float) -> None:
        cut_at = self.link.cut_at
        if cut_at is not None and (ended := self.link.ended(now)) is not None and ended.host_is_gone:
            self._certain_at = min(self._certain_at, cut_at + self._time_to_end())
        said = self.link.end_in_words(now) if cut_at is not None else ""
        if now >= self._certain_at or (not self._processes.any_runs and (said or cut_at is None)):
            self._end(f"{self.fate} ({said})" if said else self.fate)

    def _time_to_end(self) -> float:
        """Return how long a host that ends everything takes for that, in seconds."""
        return self._longest_timeout + timeouts.HOST_MARGIN

    def _has_ended(self) -> bool:
        return self.state is State.ended

    def _end(self, fate: str, *, certain: bool = True) -> None:
        """Note that nothing runs there any more, or that nobody here waits any longer for that."""
        if self.state is not State.ended:
            self.state, self.fate = State.ended, fate
            if certain and self._record is not None:
                self._record.remove()
            self._processes.have_ended(fate)

    def release(self) -> None:
        """End the way to a host that has ended; further calls change nothing."""
        self.link.close()
        self._show_lines()

    def begin_closing(self) -> float:
        """Have the host end everything; `pump` notices when it has.

        Returns:
            how long that may take, in seconds.
        """
        if self.state not in (State.opening, State.ready):
            self.finish_closing()
            return 0.0
        now = time.monotonic()
        if self._close_by is None:
            self.link.send(Bye("the launcher needs it no more"))
            running = timeouts.end_of_server(self._longest_timeout) if self._processes.any_runs else timeouts.REMAINS
            self._close_by = now + running + timeouts.HOST_FAREWELL
        return max(0.0, self._close_by - now)

    def finish_closing(self) -> None:
        """Release all that is held here, whether or not the host has ended."""
        certain = not self._processes.any_runs  # else the record says so to launchers that come later
        self._end(self.fate or f"host {self.name} has not ended in time", certain=certain)
        self.release()
        self._processes.forget()

    def close(self) -> None:
        """End the connection, and with it all that was started through it."""
        close_all([self])


def close_all(connections: Sequence[HostConnection]) -> None:
    """End connections to hosts, all at once, and with them all that was started through them."""
    try:
        for connection in connections:
            if connection.state not in (State.opening, State.ready):
                connection.link.terminate()
        until = time.monotonic() + max([connection.begin_closing() for connection in connections], default=0.0)
        while remaining := [each for each in connections if each.state is not State.ended]:
            left = until - time.monotonic()
            if left <= 0.0:
                break
            ready([event for each in remaining for event in each.waits_for()], left)
            for connection in remaining:
                connection.take_in()
        _await_ways([each for each in connections if each.state is State.ended])
    finally:  # a second Ctrl-C does not wait: what is left is killed here, and ends by itself on the hosts
        for connection in connections:
            connection.link.terminate()
        for connection in connections:
            connection.finish_closing()


def _await_ways(connections: Sequence[HostConnection]) -> None:
    """Wait for what has led to hosts that have ended: it is about to end by itself."""
    deadline = time.monotonic() + _BY_ITSELF
    while (now := time.monotonic()) < deadline and any(each.link.ended(now) is None for each in connections):
        time.sleep(0.01)
