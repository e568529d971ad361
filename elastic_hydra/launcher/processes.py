"""The requester's side of the warm server: start processes, signal them, wait for their ends."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from typing_extensions import Self

from elastic_hydra.launcher import child, inherited, outcome, passing, pickles, server, wire, worker
from elastic_hydra.launcher.anonymous_files import anonymous_file, file_with, path_of
from elastic_hydra.launcher.child import ProcessSpec
from elastic_hydra.launcher.environment import wakeups
from elastic_hydra.launcher.hazard import fork_hazard
from elastic_hydra.launcher.limits import with_limit
from elastic_hydra.launcher.main_module import Interpreter
from elastic_hydra.launcher.orphans import adopting_orphans, children_of, kill_orphans
from elastic_hydra.launcher.passing import HandedDown, Pickled

__all__ = ["ENDS", "Process", "Server", "ServerLost"]

_FRESH_ENVIRONMENT = {
    # A server with thread pools could not be forked; its processes set their own thread counts.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Counting GPUs must not create a CUDA context.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

_PAYLOAD = "elastic-hydra-payload"
"""Name of the files in which payloads travel."""

_server_pids: set[int] = set()
"""Process ids of the servers of this process."""

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
"""Signals that say that the end has come; any other asks for a checkpoint first."""

_MARGIN = 10.0
"""Seconds that a server gets on top of its clients' grace to end."""


_making = threading.Lock()
"""Held while a server is made: what another thread forks meanwhile would keep the new server's socket open."""

_connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""This process's ends. A fork that keeps a copy of one hides from its server that this process is done with it."""


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for sock in list(_connections):
        sock.close()
    _connections.clear()


os.register_at_fork(after_in_child=_after_fork)


class ServerLost(RuntimeError):
    """The warm server has died; the kernel has then killed all that it had started."""


@dataclass(eq=False)
class Process:
    """A process that the server has started for us."""

    id: int
    result_fd: int
    """Where its outcome appears; -1 for a program."""
    pid: int | None = None
    exitcode: int | None = None
    """None while it runs; minus the signal's number when one killed it."""
    exit_time: float = 0.0
    """When the server saw it end, in seconds since the epoch."""
    refused: str = ""
    """Why it could not be started."""
    fate: str = ""
    """Why it ended, where its exit code does not say it."""

    def outcome(self, *, errors_only: bool = False) -> outcome.Outcome | None:
        """Read what its function has handed over so far; see `outcome.read`."""
        return outcome.read(self.result_fd, errors_only=errors_only) if self.result_fd >= 0 else None

    def failed_at(self) -> float | None:
        """Return when its function has handed over an exception, in seconds since the epoch."""
        return outcome.failed_at(self.result_fd) if self.result_fd >= 0 else None

    def how_it_left(self) -> str:
        """Say in words how one that has ended well came to its end."""
        return outcome.how_it_left(self.result_fd) if self.result_fd >= 0 else "ended with exit code 0"

    def close(self) -> None:
        """Forget its outcome."""
        if self.result_fd >= 0:
            os.close(self.result_fd)
            self.result_fd = -1


@dataclass(eq=False)
class Server:
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
    grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL for what still runs when the connection ends."""
    _popen: subprocess.Popen[bytes] | None = None
    _pid: int | None = None
    _processes: dict[int, Process] = field(default_factory=dict)
    _ids: int = 0
    _cleaned: bool = False
    _failed: tuple[int, int] | None = None
    """A pipe; see `_announcements`."""
    lost: bool = False
    """Whether the server has died."""
    _not_its: set[int] = field(default_factory=set)
    """Children of this process that the server has not left behind, since they were there while it lived."""
    _adoption: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Ends with the `with` statement: this process adopts orphans as long."""

    # --- making one ----------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, start_method: str, shared: Mapping[str, object], grace: float, keep: Sequence[int] = ()) -> Server:
        """Get the server that suits a start method: this agent's, or a new one.

        Args:
            start_method: `warm` forks this process where that is safe and starts a fresh interpreter elsewhere; `fork`
                and `forkserver` insist on one of the two; `spawn` needs the server as a supervisor only.
            shared: objects that payloads will refer to; they travel once or, with a fork, not at all.
            grace: seconds between SIGTERM and SIGKILL for what still runs when this process is gone.
            keep: file descriptors that a new server holds until it and all that it has started are gone: locks.
        """
        if server.connection is not None:
            made = cls(server.connection.dup(), server.shared, "of the sweep", pickles.main_names)
            made.environment = server.environment
        else:
            try:
                made = cls._new(start_method, shared, keep)
            except OSError as error:
                raise ServerLost(f"no warm server could be started: {with_limit(str(error))}") from error
        try:
            made.set_grace(grace)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def _new(cls, start_method: str, shared: Mapping[str, object], keep: Sequence[int]) -> Server:
        if start_method == "forkserver":
            return cls._fresh(shared, "as start_method=forkserver asks", keep)
        hazard = None if start_method == "fork" else fork_hazard()
        if hazard is None:
            forked = cls._fork(shared)
            if isinstance(forked, Server):
                return forked
            hazard = forked
        if start_method == "fork":
            raise ServerLost(f"start_method=fork cannot be used here: {hazard}; use warm or spawn")
        return cls._fresh(shared, f"this process cannot be forked: {hazard}", keep)

    @classmethod
    def _fork(cls, shared: Mapping[str, object]) -> Server | str:
        stock = inherited.take_stock()
        with _making:
            ours, theirs = socket.socketpair()
            _connections.add(ours)
            pid = child.fork()
            if pid != 0:
                theirs.close()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setsid()
                server.shared = dict(shared)
                server.forked, pickles.main_names = True, pickles.EVERYTHING
                server.become_server(theirs, stock)
            os._exit(1)
        del stock
        made = cls(ours, shared, "forked from this process", pickles.EVERYTHING, _pid=pid)
        return made._if_ready()

    def _if_ready(self) -> Server | str:
        """Wait for the server's first word: that it is ready, or why not."""
        try:
            received = wire.receive(self.sock)
        except BaseException:
            self.close()
            raise
        refused = "it ended at its start" if received is None else received[0][1]
        if refused is None:
            _server_pids.add(self._server_pid or 0)
            return self
        self.close()
        return str(refused)

    @classmethod
    def _fresh(cls, shared: Mapping[str, object], hazard: str, keep: Sequence[int]) -> Server:
        launcher = Interpreter.like_this(os.getcwd())
        with passing.collected() as (fds, handed_down):
            data = pickles.dumps(dict(shared), main=launcher.names, for_new=True)
        first = (launcher, handed_down)
        made = cls._fresh_with(shared, Pickled(data, tuple(fds)), first, True, keep)
        if isinstance(made, Server):
            made.reason = f"from a fresh interpreter ({hazard})"
            return made
        refusal, made = made, cls._fresh_with(shared, Pickled(data, tuple(fds)), first, False, keep)
        if not isinstance(made, Server):
            raise ServerLost(f"no warm server could be started: {made}")
        made.reason = f"from a fresh interpreter ({hazard}), each importing the job's modules itself ({refusal})"
        return made

    @classmethod
    def _fresh_with(
        cls,
        shared: Mapping[str, object],
        pickled: Pickled,
        first: tuple[Interpreter, HandedDown],
        early: bool,
        keep: Sequence[int],
    ) -> Server | str:
        with _making:
            ours, theirs = socket.socketpair()
            _connections.add(ours)
            popen = subprocess.Popen(
                [*worker.interpreter("fresh_server"), *map(str, (theirs.fileno(), *keep))],
                pass_fds=[theirs.fileno(), *keep],
                env={**os.environ, **_FRESH_ENVIRONMENT},
                start_new_session=True,
            )
            theirs.close()
        made = cls(ours, shared, "", first[0].names, _popen=popen)
        # It may have ended, which is seen next.
        with file_with(pickled.data, _PAYLOAD) as fd, contextlib.suppress(ConnectionError):
            wire.send(ours, (*first, early), [fd, *pickled.fds])
        return made._if_ready()

    # --- processes -----------------------------------------------------------------------------------------------

    def set_grace(self, grace: float) -> None:
        """Say how long what still runs has between SIGTERM and SIGKILL when the connection ends, in seconds."""
        self.grace = grace
        self._send(("grace", grace))

    def preload(self, names: Iterable[str]) -> None:
        """Have the server import modules, so that the processes that it starts from now on need not."""
        self._send(("preload", sorted(names)))

    def pickled(self, payload: worker.Payload, *, fresh: bool) -> Pickled:
        """Pickle a payload for the processes of this server.

        Args:
            payload: the function to run, with its arguments.
            fresh: for a new interpreter; else for a fork of the server.
        """
        if fresh:
            launcher = Interpreter.like_this(server.directory or os.getcwd())
            with passing.collected() as (fds, handed_down):
                data = pickles.dumps(payload, main=launcher.names, for_new=True)
            return Pickled(pickle.dumps((launcher, handed_down, data)), tuple(fds))
        return Pickled(pickles.dumps(payload, self.shared, self.main_names, for_new=self._popen is not None))

    def prepare(self, count: int) -> None:
        """Have so many processes forked ahead: to start one of them is then to say what it shall be."""
        self._send(("prepare", count))

    def start(self, spec: ProcessSpec, payload: worker.Payload | Pickled | None = None) -> Process:
        """Ask for a process; its `pid` is there once `wait` has seen it start.

        Args:
            spec: what to start.
            payload: the function to run, with its arguments, also from `pickled`; None for a program.
        """
        self._ids += 1
        if self._server_pid is not None:
            self._not_its |= children_of(os.getpid())
        process = Process(self._ids, anonymous_file("elastic-hydra-result") if payload is not None else -1)
        self._processes[process.id] = process
        if payload is None:
            self._send(("start", process.id, spec))
            return process
        if not spec.agent:
            spec.environment[outcome.ANNOUNCED] = path_of(self._announcements()[1])
        pickled = payload if isinstance(payload, Pickled) else self.pickled(payload, fresh=spec.argv is not None)
        with file_with(pickled.data, _PAYLOAD) as fd:
            self._send(("start", process.id, spec), [fd, process.result_fd, *pickled.fds])
        return process

    def _announcements(self) -> tuple[int, int]:
        """Return the ends of the pipe into which processes write when they have failed and have not ended yet."""
        if self._failed is None:
            self._failed = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return self._failed

    def signal(self, processes: Iterable[Process], number: int) -> None:
        """Send a signal to the process groups of those that still run."""
        ids = [process.id for process in processes if process.exitcode is None]
        if ids:
            self._send(("signal", ids, int(number)))

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
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        for woken in wakeups[-1:]:
            poll.register(woken, select.POLLIN)
        if self._failed is not None:
            poll.register(self._failed[0], select.POLLIN)
        ready = [fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000.0)]
        for woken in wakeups[-1:]:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)  # the signal's handler has run, or does so now
        announced = self._failed is not None and self._failed[0] in ready and bool(os.read(self._failed[0], 4096))
        if self.sock.fileno() not in ready:
            return announced
        # A signal handler may raise at any point of this: look first, take away only what has been dealt with.
        try:
            data = self.sock.recv(1 << 16, socket.MSG_PEEK)
        except ConnectionResetError:
            data = b""  # it was killed before it had read all that was said to it
        if not data:
            self._mark_lost()
            raise ServerLost("the warm server has died")
        used = 0
        while (message := wire.parse(data, used)) is not None:
            event, used = message
            self._apply(event)
        if used:
            self.sock.recv(used)
        return True

    def _apply(self, event: tuple[Any, ...]) -> None:
        verb, *arguments = event
        if verb == "cleaned":
            self._cleaned = True
            return
        process = self._processes.get(arguments[0])
        if process is None:
            return
        if verb == "started":
            process.pid = arguments[1]
        elif verb == "refused":
            process.refused, process.exitcode, process.exit_time = arguments[1], 1, time.time()
        elif verb == "exited":
            process.exitcode, process.exit_time = arguments[1:]

    @property
    def _server_pid(self) -> int | None:
        return self._popen.pid if self._popen is not None else self._pid

    def _mark_lost(self) -> None:
        self.lost = True
        pid = self._server_pid
        self._await_end(_MARGIN)
        for process in self._processes.values():
            if process.exitcode is None:
                process.exitcode, process.exit_time = -signal.SIGKILL, time.time()
                process.fate = f"the warm server (pid {pid}), which supervises all agents and workers, was killed"

    def _send(self, message: Any, fds: tuple[int, ...] | list[int] = ()) -> None:
        try:
            wire.send(self.sock, message, fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            self._mark_lost()
            raise ServerLost("the warm server has died") from error

    def ask(self, processes: Iterable[Process], number: int, timeout: float) -> bool:
        """Send a signal, and wait for the ends of those that got it.

        Returns:
            whether all have ended within `timeout` seconds.
        """
        mine = list(processes)
        try:
            if (pid := self._server_pid) is not None:
                os.kill(pid, signal.SIGCONT)  # should somebody have stopped the server itself
            self.signal(mine, number)
            self.signal(mine, signal.SIGCONT)  # one that is stopped would not hear of it
            return self.wait(lambda: all(process.exitcode is not None for process in mine), timeout)
        except ServerLost:
            return True

    def stop(self, processes: Iterable[Process], number: int, grace: float) -> list[Process]:
        """End processes: `number` first, SIGKILL for those that are still there after `grace` seconds.

        Returns:
            those that did not die within five more seconds: stuck in the kernel.
        """
        mine = list(processes)
        if not self.ask(mine, number, grace):
            self.ask(mine, signal.SIGKILL, 5.0)
        return [process for process in mine if process.exitcode is None]

    def clean(self) -> None:
        """Kill what our processes have left running, in whatever session, and wait until that is done."""
        with contextlib.suppress(ServerLost):
            self._cleaned = False
            self._send(("clean",))
            self.wait(lambda: self._cleaned, 10.0)

    def forget(self, processes: Iterable[Process]) -> None:
        """Drop what is kept of processes that have ended."""
        for process in processes:
            process.close()
            self._processes.pop(process.id, None)

    def close(self) -> None:
        """End the connection, and with it all that was started through it."""
        self.sock.close()
        self._await_end(self.grace + _MARGIN)  # it ends when all is gone that it has started
        self.forget(list(self._processes.values()))
        for fd in self._failed or ():
            os.close(fd)
        self._failed = None
        self._adoption.close()

    def _await_end(self, timeout: float) -> None:
        """Wait for the end of a server of our own, kill it if that does not come, and then what it leaves behind."""
        pid = self._server_pid
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)  # should somebody have stopped it
        if not self._has_ended(timeout):
            self.lost = True
            os.kill(pid, signal.SIGKILL)
            self._has_ended(None)
        if self.lost:  # the kernel has killed most of what it had started, but not all can be reached in that way
            kill_orphans(self._not_its | _server_pids)
        _server_pids.discard(pid)
        self._pid = self._popen = None

    def _has_ended(self, timeout: float | None) -> bool:
        """Wait for the server's end, and take its remains away."""
        try:
            if self._popen is not None:
                self._popen.wait(timeout)
            elif self._pid is not None:
                psutil.Process(self._pid).wait(timeout)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            return False
        except psutil.NoSuchProcess:
            pass  # somebody else has taken them away
        return True

    @contextlib.contextmanager
    def adopting_orphans(self) -> Iterator[None]:
        """While entered, what the server leaves behind, should it die, is found here and killed."""
        if self._server_pid is None:
            yield  # that is its own parent's business
            return
        self._not_its |= children_of(os.getpid())
        with adopting_orphans():
            yield

    def __enter__(self) -> Self:
        self._adoption.enter_context(self.adopting_orphans())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
