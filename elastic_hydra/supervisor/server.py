"""The warm server: the parent and supervisor of all agents and workers.

It has imported what they need and forks them on request. It does nothing else, so that a fork of it is always sound:
no threads, no locks, no CUDA context, no file written. Whoever asks for processes holds a connection; when that closes,
for whatever reason, the server stops what was started through it.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import psutil

from elastic_hydra.numa.bind import BindError
from elastic_hydra.supervisor import (
    ending,
    entry,
    fork_safety,
    forked,
    inherited,
    outcome,
    signals,
    standard_input,
    wire,
)
from elastic_hydra.supervisor.anonymous_files import take_content
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.orphans import adopt_orphans, children_of, kill, with_descendants
from elastic_hydra.supervisor.packed_error import pack
from elastic_hydra.supervisor.process_limits import with_limit

__all__ = ["TOKEN", "become_server", "connection", "shared"]

TOKEN = "ELASTIC_HYDRA_TOKEN"
"""Environment variable that marks the descendants of one connection's processes, also those that daemonize."""

shared: dict[str, object] = {}
"""Objects that payloads refer to by name; every process forked from the server has them."""

environment: dict[str, str] = dict(os.environ)
"""The environment in which the server has started."""

directory: str | None = None
"""Where it has started; None in a process that is no descendant of a server."""

descends_from_launcher = False
"""Whether this process and the launcher are the same but for forks."""

connection: socket.socket | None = None
"""An agent's own connection to the server; None in every other process."""


_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that tell a job to stop; a batch system may send them to every process."""


@dataclass(eq=False)
class Connection:
    """One connection: a launcher or an agent, and what it has started."""

    sock: socket.socket
    token: str
    grace: float = 30.0
    """Seconds between SIGTERM and SIGKILL when this client is gone."""
    sessions: set[int] = field(default_factory=set)
    """Session ids of everything it has started so far."""
    gone: bool = False


@dataclass(eq=False)
class Child:
    pid: int
    id: int
    client: Connection
    own: Connection | None = None
    """An agent's connection, by which it starts processes itself."""
    spare: socket.socket | None = None
    """Where a process that was forked ahead waits to hear what it shall be; None once it has heard."""
    is_program: bool = False
    kill_at: float | None = None


class Server:
    def __init__(self, sock: socket.socket) -> None:
        self._pid = os.getpid()
        self._children: dict[int, Child] = {}
        self._clients: dict[socket.socket, Connection] = {}
        self._received: list[int] = []
        """File descriptors of the request that is being served."""
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        signals.displace(signal.SIGCHLD, lambda *_: None)
        # Only the end of its clients ends the server. The handlers stay: its forks shall have them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
        adopt_orphans()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._add_client(sock)

    def _add_client(self, sock: socket.socket) -> Connection:
        client = self._clients[sock] = Connection(sock, token=f"{self._pid}.{time.monotonic_ns()}")
        self._selector.register(sock, selectors.EVENT_READ)
        return client

    def run(self) -> None:
        """Serve until the last client and the last process are gone."""
        while self._clients or self._children:
            for key, _ in self._selector.select(self._next_deadline()):
                if key.fileobj is self._wakeup:
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                elif (client := self._clients.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                    self._handle(client)
            self._reap()
            self._kill_overdue()
        # What was forked, and has moved to a session of its own, bears no mark of whose it is; now it can only be ours.
        left = psutil.Process(self._pid).children(recursive=True)
        kill(left)
        psutil.wait_procs(left, timeout=1.0)  # or their remains would be those of the process that we came from

    def _next_deadline(self) -> float | None:
        deadlines = [c.kill_at for c in self._children.values() if c.kill_at is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    # --- requests ------------------------------------------------------------------------------------------------

    def _handle(self, client: Connection) -> None:
        try:
            received = wire.receive(client.sock)
        except wire.FilesLostError as lost:
            # It can only be a start: no other request has files.
            self._tell(client, ("refused", lost.message[1], with_limit(f"cannot start a process: {lost}")))
            return
        if received is None:
            self._drop(client)
            return
        (verb, *arguments), self._received = received
        try:
            getattr(self, f"_do_{verb}")(client, self._received, *arguments)
        finally:
            while self._received:
                os.close(self._received.pop())

    def _do_grace(self, client: Connection, _: list[int], seconds: float) -> None:
        client.grace = seconds

    def _do_preload(self, _client: Connection, _: list[int], names: list[str]) -> None:
        """Import what workers turned out to need; only what is known to leave a process fit for forking."""
        missing = [name for name in names if name not in sys.modules]
        for name in missing:
            with contextlib.suppress(ImportError):  # then workers go on importing it
                importlib.import_module(name)
        if missing:
            forked.freeze(inherited.take_stock())

    def _do_prepare(self, client: Connection, _: list[int], count: int) -> None:
        """Have so many processes forked ahead, while the client is still busy with what they shall be."""
        with contextlib.suppress(OSError):  # the start itself says so, should it fail as well
            for _number in range(len(self._spares(client)), count):
                self._fork_spare(client)

    def _do_start(self, client: Connection, fds: list[int], id_: int, spec: ProcessSpec) -> None:
        spec.environment[TOKEN] = client.token
        try:
            started = self._put_to_work(client, spec, fds)
        except OSError as error:
            self._tell(client, ("refused", id_, with_limit(f"cannot start a process: {error}")))
            return
        started.id, started.is_program = id_, not fds
        self._tell(client, ("started", id_, started.pid))

    def _put_to_work(self, client: Connection, spec: ProcessSpec, fds: list[int]) -> Child:
        for spare in self._spares(client):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # somebody has killed it
                return self._give_orders(spare, spec, fds)
        return self._give_orders(self._fork_spare(client), spec, fds)

    def _give_orders(self, process: Child, spec: ProcessSpec, fds: list[int]) -> Child:
        """Tell a process that was forked ahead what it shall be."""
        assert process.spare is not None
        with process.spare as sock:
            process.spare = None
            if not spec.agent:
                wire.send(sock, spec, fds)
                return process
            ours, theirs = socket.socketpair()
            with theirs:
                wire.send(sock, spec, [*fds, theirs.fileno()])
            process.own = self._add_client(ours)
            return process

    def _spares(self, client: Connection) -> list[Child]:
        return [
            process for process in self._children.values() if process.client is client and process.spare is not None
        ]

    def _fork_spare(self, client: Connection) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                pid = forked.fork()  # what is sent to it before it has handlers of its own waits until it unblocks all
            except OSError:
                ours.close()
                raise
            if pid == 0:
                ours.close()
                self._wait_for_orders(theirs)
        client.sessions.add(pid)
        spare = self._children[pid] = Child(pid, -1, client, spare=ours)
        return spare

    def _wait_for_orders(self, sock: socket.socket) -> NoReturn:
        with _exit_if_it_fails():
            self._forget()
            forked.detach(self._pid)
            with sock:
                received = wire.receive(sock)
            if received is None:
                os._exit(forked.EXIT_CANNOT_START)
            spec, fds = received
        _become(spec, fds)

    def _forget(self) -> None:
        """Close what is the server's alone, in a forked process: a copy left open would hide that a client is gone."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        spares = [process.spare for process in self._children.values() if process.spare is not None]
        for sock in (*self._clients, *spares, self._wakeup, self._wakeup_end):
            sock.close()
        for fd in self._received:
            os.close(fd)

    def _do_signal(self, client: Connection, _: list[int], ids: list[int], number: int) -> None:
        for process in list(self._children.values()):
            if process.client is client and process.id in ids:
                if number == signal.SIGKILL and process.own is not None:
                    process.own.grace = 0.0  # killed at once, and so is what it has started
                _signal(process, number)

    def _do_clean(self, client: Connection, _: list[int]) -> None:
        self._kill_descendants(client)
        self._tell(client, ("cleaned",))

    def _tell(self, client: Connection, message: tuple[Any, ...]) -> None:
        if not client.gone:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is seen by the selector
                wire.send(client.sock, message)

    # --- ends ----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            process = self._children.pop(ended.si_pid, None)
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            if process is not None and code != 0:
                # What a failed process leaves behind is of no use. Before it is reaped its id is nobody else's.
                _signal_group(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if process is None:
                continue  # an orphan that became ours
            if process.spare is not None:
                process.spare.close()
            self._tell(process.client, ("exited", process.id, code, time.time()))
            if process.own is not None:
                self._kill_unmarked()
            if process.client.gone and not any(c.client is process.client for c in self._children.values()):
                self._kill_descendants(process.client)

    def _drop(self, client: Connection) -> None:
        """Stop what a client that is gone has started: first by SIGTERM, after its grace by SIGKILL."""
        self._selector.unregister(client.sock)
        client.sock.close()
        client.gone = True
        del self._clients[client.sock]
        mine = [process for process in self._children.values() if process.client is client]
        for process in mine:
            _signal(process, signal.SIGTERM)
            _signal(process, signal.SIGCONT)  # one that is stopped would not hear of it
            process.kill_at = time.monotonic() + client.grace
        if not mine:
            self._kill_descendants(client)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for process in self._children.values():
            if process.kill_at is not None and process.kill_at <= now:
                _signal_group(process.pid, signal.SIGKILL)
                process.kill_at = now + 1.0  # again, should it be stuck in the kernel

    def _kill_descendants(self, client: Connection) -> None:
        """Kill what a client's processes have left running, whatever session or parent it has moved to."""
        if children_of(self._pid) <= self._children.keys():
            return  # orphans become children of the server, and there are none: the usual case, and cheap to see
        for process in psutil.Process(self._pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                own = self._children.get(process.pid)
                if own is not None and own.client is not client:
                    continue
                if os.getsid(process.pid) in client.sessions or process.environ().get(TOKEN) == client.token:
                    process.kill()
        self._kill_unmarked()

    def _kill_unmarked(self) -> None:
        """Kill orphans that do not show whose they are, once all that may have started them has ended.

        Those are in sessions of their own and have another environment. What was started after them has not started
        them: they are killed when they are older than all that runs.
        """
        orphans = children_of(self._pid) - self._children.keys()
        if not orphans:
            return
        running = [process.pid for process in self._children.values() if process.spare is None]
        oldest = min((started for pid in running if (started := _started(pid)) is not None), default=math.inf)
        for pid in orphans:
            if (started := _started(pid)) is not None and started < oldest:
                with contextlib.suppress(psutil.Error):
                    kill(with_descendants(pid))


def _become(spec: ProcessSpec, fds: list[int]) -> NoReturn:
    """Be, in a detached process, what `spec` describes, to the end."""
    global connection
    with _exit_if_it_fails(fds):
        forked.become(spec, tuple(fds))
        payload_fd, result_fd, *own = fds
        payload = take_content(payload_fd)
        connection = socket.socket(fileno=own[0]) if own else None
    entry.run(payload, shared, result_fd)


@contextlib.contextmanager
def _exit_if_it_fails(fds: list[int] | None = None) -> Iterator[None]:
    """End a forked process that cannot be set up: nothing may unwind into the server's own code."""
    try:
        yield
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        if isinstance(error, BindError) and fds:
            outcome.write(fds[1], outcome.Outcome(error=pack(error)))
        os._exit(forked.EXIT_CANNOT_START)


def _signal(process: Child, number: int) -> None:
    """Send a signal to a process; a program may be a shell around the real one, so its group gets it as well.

    Helpers of a function, such as those that load its data, are its own to end: it may need them for a last checkpoint.
    """
    if process.is_program or number in (signal.SIGKILL, signal.SIGCONT):
        _signal_group(process.pid, number)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(leader, number)
        except ProcessLookupError:
            os.kill(leader, number)  # just forked: it has no group of its own yet


def _started(pid: int) -> float | None:
    """Return when a process was started, in seconds since the epoch; None: it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def become_server(sock: socket.socket, stock: inherited.Stock, refused: str | None = None) -> NoReturn:
    """Turn this process into a warm server for the client at the other end of `sock`, which is told when it is ready.

    Args:
        sock: the connection.
        stock: what there was before the fork.
        refused: why this process cannot be one, if so.
    """
    global environment, directory
    code = 1
    try:
        environment, directory = dict(os.environ), os.getcwd()
        refused = refused or fork_safety.poisoned()
        wire.send(sock, ("ready", refused))
        if refused is not None:
            os._exit(0)
        standard_input.keep()
        forked.freeze(stock)
        Server(sock).run()
        if not forked:  # else they are the launcher's
            ending.finalize_all()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)
