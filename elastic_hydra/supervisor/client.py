"""The requester's side of a warm server: start processes, signal them, wait for their ends.

A client lives in the launcher or in an agent. The server, and what was started through this connection, end with the
connection. When the server dies first, all that it had started is dead, too, and `ServerLost` says so.

What must never happen: a message is lost because a signal's exception is raised while it is read. So signals end the
waiting for messages only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from elastic_hydra import timeouts
from elastic_hydra.supervisor import channel, context, entry, outcome, passing, pickles, waiting
from elastic_hydra.supervisor.anonymous_files import anonymous_file, file_with, path_of
from elastic_hydra.supervisor.channel import Channel
from elastic_hydra.supervisor.fork_safety import CannotFork
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.main_module import Interpreter
from elastic_hydra.supervisor.passing import Pickled
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.protocol import (
    CannotServe,
    Clean,
    Cleaned,
    Exited,
    LastWill,
    Message,
    Preload,
    Prepare,
    ProtocolError,
    Ready,
    Refused,
    Renew,
    Request,
    ShutdownTimeout,
    Signal,
    Start,
    Started,
)
from elastic_hydra.supervisor.server_process import ServerProcess
from elastic_hydra.supervisor.waiting import Listener, ServerLost

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ENDS", "PAYLOAD", "Client", "Listener", "Process", "ServerLost"]

PAYLOAD = "elastic-hydra-payload"
"""Name of the files in which payloads travel."""

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
"""Signals that say that the end has come; any other asks for a checkpoint first."""


@dataclass(eq=False)
class Client:
    """A connection to a warm server. Use it in a `with` statement: its end ends all that was started through it."""

    sock: socket.socket
    shared: Mapping[str, object]
    """What payloads refer to by name instead of containing it."""
    reason: str
    """How the server came to be, in words."""
    main_names: Container[str] = ()
    """Names that its `__main__` and that of this process have in common."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """The environment in which it has started."""
    shutdown_timeout: float = 30.0
    """Seconds between SIGTERM and SIGKILL for what still runs when the connection ends."""
    listener: Listener | None = None
    """What is served, too, while this process waits for the server; None: nothing."""
    process: ServerProcess | None = None
    """The server, where it is a child of this process; None in an agent."""
    _processes: dict[int, Process] = field(default_factory=dict)
    _ids: int = 0
    _cleaned: bool = False
    _failed: tuple[int, int] | None = None
    """A pipe; see `_announcements`."""
    lost: bool = False
    """Whether the server has died."""
    _adoption: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Ends with the `with` statement: this process adopts orphans as long."""

    def __post_init__(self) -> None:
        self._channel = Channel(self.sock)

    def await_ready(self) -> None:
        """Wait for the first word of a new server; close it if it cannot be one.

        Raises:
            CannotFork: it cannot, and says why.
        """
        try:
            self._hear_first_word()
        except BaseException:
            self.close()
            raise
        if self.process is not None:
            self.process.note_ready()

    def _hear_first_word(self) -> None:
        try:
            while (received := self._channel.take()) is None:
                if self.sock.fileno() in waiting.poll(self.waits_for(), None, self.listener):
                    self._channel.fill()  # would wait for the server, where only the listener has something to do
        except EOFError:
            raise CannotFork("it ended at its start") from None
        match reply := received.message:
            case Ready():
                return
            case CannotServe(reason):
                raise CannotFork(reason)
            case _:
                raise ProtocolError(f"a new server begins with {type(reply).__name__}")

    def set_shutdown_timeout(self, shutdown_timeout: float) -> None:
        """Say how long what still runs has between SIGTERM and SIGKILL when the connection ends, in seconds."""
        self.shutdown_timeout = shutdown_timeout
        self._send(ShutdownTimeout(shutdown_timeout))

    def renew(self, until: float) -> None:
        """Have the server end the connection at some moment on the monotonic clock, unless it hears this again."""
        self._send(Renew(until))

    def preload(self, names: Iterable[str]) -> None:
        """Have the server import modules, so that the processes that it starts from now on need not."""
        self._send(Preload(tuple(sorted(names))))

    def leave_will(self, text: str) -> None:
        """Say what the server shall write to the terminal if this process is gone and has not taken that back.

        Args:
            text: it; empty: nothing.
        """
        self._send(LastWill(text))

    def pickled(self, payload: entry.Payload, *, fresh: bool) -> Pickled:
        """Pickle a payload for the processes of this server.

        Args:
            payload: the function to run, with its arguments.
            fresh: for a new interpreter; else for a fork of the server.
        """
        if fresh:
            launcher = Interpreter.like_this(context.current().launch_directory or os.getcwd())
            with passing.collected() as (fds, handed_down):
                data = pickles.dumps(payload, main=launcher.names, for_new=True)
            return Pickled(pickle.dumps((launcher, handed_down, data)), tuple(fds))
        is_interpreter = self.process is not None and self.process.popen is not None
        return Pickled(pickles.dumps(payload, self.shared, self.main_names, for_new=is_interpreter))

    def prepare(self, count: int) -> None:
        """Have so many processes forked ahead: to start one of them is then to say what it shall be."""
        self._send(Prepare(count))

    def start(self, spec: ProcessSpec, payload: entry.Payload | Pickled | None = None) -> Process:
        """Ask for a process; its `pid` is there once `wait` has seen it start.

        Args:
            spec: what to start.
            payload: the function to run, with its arguments, also from `pickled`; None for a program.
        """
        self._ids += 1
        if self.process is not None:
            self.process.note_children()
        process = Process(self._ids, anonymous_file("elastic-hydra-result") if payload is not None else -1)
        self._processes[process.id] = process
        if payload is None:
            self._send(Start(process.id, spec, is_program=True))
            return process
        if not spec.agent:
            spec.environment[outcome.ANNOUNCED] = path_of(self._announcements()[1])
        pickled = payload if isinstance(payload, Pickled) else self.pickled(payload, fresh=spec.argv is not None)
        with file_with(pickled.data, PAYLOAD) as fd:
            self._send(Start(process.id, spec, is_program=False), [fd, process.result_fd, *pickled.fds])
        return process

    def _announcements(self) -> tuple[int, int]:
        """Return the ends of the pipe into which processes write when they have failed and have not ended yet."""
        if self._failed is None:
            self._failed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return self._failed

    def signal(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to the process groups of those that still run."""
        ids = tuple(process.id for process in processes if process.exitcode is None)
        if ids:
            self._send(Signal(ids, int(number)))

    def command(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to those that still run, such that they hear of it even if somebody has stopped them."""
        commanded = list(processes)
        if self.process is not None:
            self.process.resume()
        self.signal(commanded, number)
        self.signal(commanded, signal.SIGCONT)

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for an event of our processes that makes `done()` true.

        Args:
            done: looked at first, and after every event.
            timeout: seconds; None waits for ever.

        Returns:
            whether it is true.

        Raises:
            ServerLost: the server has died.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not done():
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.pump(remaining) and remaining == 0.0:
                return done()
        return True

    def pump(self, timeout: float | None = 0.0) -> bool:
        """Take in what the server has said; wait for `timeout` seconds (None: for ever) when there is nothing yet."""
        if self.lost:
            raise ServerLost("the warm server has died")
        ready = waiting.poll(self.waits_for(), timeout, self.listener)
        announced = self._failed is not None and self._failed[0] in ready and bool(os.read(self._failed[0], 4096))
        if self.sock.fileno() not in ready:
            return announced
        try:
            self._channel.fill()
        except EOFError:
            self._mark_lost()
            raise ServerLost("the warm server has died") from None
        while (received := self._channel.take()) is not None:
            self._hear(received.message)
        return True

    def waits_for(self) -> list[tuple[int, int]]:
        """Return what is to be polled before a `pump`: file descriptors with events; nothing if it is lost."""
        if self.lost:
            return []
        fds = [self.sock.fileno()] if self._failed is None else [self.sock.fileno(), self._failed[0]]
        return [(fd, select.POLLIN) for fd in fds]

    def next_deadline(self) -> None:
        """Return when `pump` is to be called at the latest: only an event makes that necessary."""

    def is_asked(self) -> bool:
        """Whether the listener has taken in a request."""
        return self.listener is not None and self.listener.has_requests

    def _hear(self, reply: Message) -> None:
        """Note what the server has said; it may speak of what is forgotten here."""
        match reply:
            case Started(id, pid):
                if (process := self._processes.get(id)) is not None:
                    process.pid = pid
            case Refused(id, reason):
                if (process := self._processes.get(id)) is not None:
                    process.refused = reason
                    process.exitcode = 1
                    process.exit_time = time.time()
            case Exited(id, code, exit_time):
                if (process := self._processes.get(id)) is not None:
                    process.exitcode = code
                    process.exit_time = exit_time
            case Cleaned():
                self._cleaned = True
            case _:
                raise ProtocolError(f"the warm server has sent {type(reply).__name__}, which is no reply")

    def _mark_lost(self) -> None:
        self.lost = True
        if self.process is None and sys.platform == "linux":
            # An agent is about to die with its server. It must not take the death of its workers for a failure
            # meanwhile, and record a restart that nobody carries out.
            time.sleep(timeouts.DEATH_WITH_SERVER)
        pid = None if self.process is None else self.process.pid
        self._await_end(timeouts.SERVER_MARGIN)
        for process in self._processes.values():
            if process.exitcode is None:
                process.exitcode, process.exit_time = -signal.SIGKILL, time.time()
                process.fate = f"the warm server (pid {pid}), which supervises all agents and workers, was killed"

    def _send(self, request: Request, files: Sequence[int] = ()) -> None:
        try:
            channel.send(self.sock, request, files)
        except (BrokenPipeError, ConnectionResetError) as error:
            self._mark_lost()
            raise ServerLost("the warm server has died") from error

    def ask(self, processes: Iterable[Process], number: int, timeout: float) -> bool:
        """Send a signal, and wait for the ends of those that got it.

        Returns:
            whether all have ended within `timeout` seconds.
        """
        asked = list(processes)
        try:
            self.command(asked, number)
            return self.wait(lambda: all(process.exitcode is not None for process in asked), timeout)
        except ServerLost:
            return True

    def stop(self, processes: Iterable[Process], number: int, shutdown_timeout: float) -> list[Process]:
        """End processes: `number` first, SIGKILL for those that are still there after `shutdown_timeout` seconds.

        Returns:
            those that did not die of that either: stuck in the kernel.
        """
        stopped = list(processes)
        if not self.ask(stopped, number, shutdown_timeout):
            self.ask(stopped, signal.SIGKILL, timeouts.AFTER_SIGKILL)
        return [process for process in stopped if process.exitcode is None]

    def clean(self) -> None:
        """Kill what our processes have left running, in whatever session, and wait until that is done."""
        with contextlib.suppress(ServerLost):
            self._cleaned = False
            self._send(Clean())
            self.wait(lambda: self._cleaned, timeouts.CLEAN)

    def forget(self, processes: Iterable[Process]) -> None:
        """Drop what is kept of processes that have ended."""
        for process in processes:
            process.close()
            self._processes.pop(process.id, None)

    def close(self) -> None:
        """End the connection, and with it all that was started through it."""
        self.sock.close()
        # It ends when all is gone that it has started.
        self._await_end(timeouts.end_of_server(self.shutdown_timeout))
        self.forget(list(self._processes.values()))
        for fd in self._failed or ():
            os.close(fd)
        self._failed = None
        self._adoption.close()

    def _await_end(self, timeout: float) -> None:
        """Wait for the end of a server that is a child of this process, and kill what it leaves behind."""
        if self.process is not None:
            self.lost = self.process.take_away(timeout, was_killed=self.lost)
            self.process = None

    @contextlib.contextmanager
    def adopting_orphans(self) -> Iterator[None]:
        """While entered, what the server leaves behind, should it die, is found here and killed."""
        if self.process is None:
            yield  # the parent of the server does that
            return
        with self.process.adopting_orphans():
            yield

    def __enter__(self) -> Self:
        self._adoption.enter_context(self.adopting_orphans())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
