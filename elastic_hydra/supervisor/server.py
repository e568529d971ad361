"""The warm server: the parent and supervisor of all agents and workers.

::

    launcher ══ connection ══ server ══ connection ══ agent
                                ├── agent      asked for by the launcher
                                ├── worker     asked for by the agent
                                └── spare      forked ahead: agent or worker, once it has its orders

It has imported what agents and workers need, and forks them on request. It does nothing else, so that a fork of it is
always sound: it has no threads, no locks and no CUDA context, and writes no file.

Who dies with whom:

- Each process lives as long as the connection by which it was asked for. When that closes, for whatever reason, the
  process gets SIGTERM and, after the client's shutdown time-out, SIGKILL. So workers end with their agent, and agents
  with the launcher. A client that has said until when it will speak again (`Renew`), and has not, is gone as well.
- The server ends when it has neither clients nor children. When it is killed, the kernel kills its children.

What must never happen: that one client or one process keeps the server from the others. So it waits for events only,
and for none of them in particular: no socket blocks (`channel`), and a client that reads no replies is dropped.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import selectors
import signal
import socket
import sys
import time
from typing import NoReturn

from elastic_hydra.supervisor import context, ending, fork_safety, forked, inherited, signals, spare, standard_input
from elastic_hydra.supervisor.channel import Channel, FilesLostError, send
from elastic_hydra.supervisor.children import Child, Connection, send_signal, signal_group
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.fork_safety import CannotFork
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.orphans import adopt_orphans
from elastic_hydra.supervisor.process_limits import with_limit
from elastic_hydra.supervisor.protocol import (
    Become,
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
    ShutdownTimeout,
    Signal,
    Start,
    Started,
)
from elastic_hydra.supervisor.remains import TOKEN, kill_all_remains, kill_remains_of, kill_unmarked

__all__ = ["become_server"]

_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that tell a job to stop; a batch system may send them to every process."""

_MOST_UNREAD = 1 << 20
"""Bytes of replies that a client may leave unread: some ten thousand replies.

Each reply answers a request, so that a client which is stopped for a while never has so many.
"""


class Server:
    """The loop that serves clients and buries children.

    Args:
        sock: the connection of the first client.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._pid = os.getpid()
        self._children: dict[int, Child] = {}
        self._clients: set[Connection] = set()
        self._channels: set[Channel] = set()
        """All that are open, those of clients and those to spares: no fork keeps a copy of one."""
        self._files: list[int] = []
        """File descriptors of the request that is being served."""
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        signals.displace(signal.SIGCHLD, lambda *_: None)  # without a handler no byte is written to the wakeup socket
        # Only the end of its clients ends the server. The app's handlers stay: forks of the server shall have them.
        signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
        adopt_orphans()
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._drain_wakeup)
        self._add_client(sock)

    def _add_client(self, sock: socket.socket) -> Connection:
        channel = self._open(sock)
        client = Connection(channel, token=f"{self._pid}.{time.monotonic_ns()}")
        self._clients.add(client)
        self._selector.register(channel, selectors.EVENT_READ, functools.partial(self._handle, client))
        return client

    def _open(self, sock: socket.socket) -> Channel:
        sock.setblocking(False)
        channel = Channel(sock)
        self._channels.add(channel)
        return channel

    def _close(self, channel: Channel) -> None:
        self._channels.discard(channel)
        channel.close()

    def run(self) -> None:
        """Serve until the last client and the last process are gone."""
        while self._clients or self._children:
            for key, events in self._selector.select(self._next_deadline()):
                key.data(events)
            self._reap()
            self._drop_silent()
            self._kill_overdue()
        kill_all_remains()

    def _drain_wakeup(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)

    def _next_deadline(self) -> float | None:
        deadlines = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        deadlines += [client.silent_at for client in self._clients if client.silent_at != math.inf]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    # --- requests ------------------------------------------------------------------------------------------------

    def _handle(self, client: Connection, events: int) -> None:
        if client.gone:
            return  # since the selector has seen it
        try:
            if events & selectors.EVENT_WRITE:
                client.channel.flush()
                self._watch(client)
            if events & selectors.EVENT_READ:
                client.channel.fill()
                self._serve_all(client)
        except (EOFError, ConnectionError):
            self._drop(client)
        except ProtocolError as error:
            self._drop(client, str(error))

    def _serve_all(self, client: Connection) -> None:
        while not client.gone and (received := client.channel.take()) is not None:
            self._files = received.files or []
            try:
                self._serve(client, received.message, lost=received.files is None)
            finally:
                while self._files:
                    os.close(self._files.pop())

    def _serve(self, client: Connection, request: Message, lost: bool) -> None:
        match request:
            case ShutdownTimeout(seconds):
                client.shutdown_timeout = seconds
            case Renew(until):
                client.silent_at = until
            case Preload(modules):
                self._preload(modules)
            case Prepare(count):
                self._prepare(client, count)
            case Start():
                self._start(client, request, lost)
            case Signal(ids, number):
                self._signal(client, ids, number)
            case LastWill(text):
                client.will = text
            case Clean():
                kill_remains_of(client, self._children)
                self._tell(client, Cleaned())
            case _:
                raise ProtocolError(f"a client has sent {type(request).__name__}, which is no request")

    def _preload(self, modules: tuple[str, ...]) -> None:
        """Import what workers turned out to need; only what is known to leave a process fit for forking."""
        missing = [name for name in modules if name not in sys.modules]
        for name in missing:
            with contextlib.suppress(ImportError):  # then workers go on importing it
                importlib.import_module(name)
        if missing:
            forked.freeze(inherited.take_stock())

    def _prepare(self, client: Connection, count: int) -> None:
        """Have so many processes forked ahead, while the client is still busy with what they shall be."""
        with contextlib.suppress(OSError):  # the start itself says so, should it fail as well
            for _number in range(len(self._spares(client)), count):
                self._fork_spare(client)

    def _start(self, client: Connection, request: Start, lost: bool) -> None:
        request.spec.environment[TOKEN] = client.token
        try:
            if lost:
                raise FilesLostError
            child = self._put_to_work(client, request.spec)
        except OSError as error:
            self._tell(client, Refused(request.id, with_limit(f"cannot start a process: {error}")))
            return
        child.id = request.id
        child.is_program = request.is_program
        self._tell(client, Started(request.id, child.pid))

    def _put_to_work(self, client: Connection, spec: ProcessSpec) -> Child:
        for child in self._spares(client):
            with contextlib.suppress(ConnectionError):  # somebody has killed it
                return self._give_orders(child, spec)
        return self._give_orders(self._fork_spare(client), spec)

    def _give_orders(self, child: Child, spec: ProcessSpec) -> Child:
        """Tell a process that was forked ahead what it shall be."""
        if not spec.agent:
            self._send_orders(child, spec, self._files)
            return child
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._send_orders(child, spec, [*self._files[:2], theirs.fileno(), *self._files[2:]])
            except BaseException:
                ours.close()
                raise
        child.own = self._add_client(ours)
        return child

    def _send_orders(self, child: Child, spec: ProcessSpec, files: list[int]) -> None:
        assert child.orders is not None
        orders = child.orders
        child.orders = None
        try:
            orders.send(Become(spec), files)
        finally:
            if not orders.backlog:
                self._close(orders)
        if orders.backlog:  # somebody has stopped the process, or its environment is longer than a socket's buffer
            self._selector.register(orders, selectors.EVENT_WRITE, functools.partial(self._go_on_sending, orders))

    def _go_on_sending(self, orders: Channel, _: int) -> None:
        try:
            orders.flush()
        except ConnectionError:
            orders.backlog = 0  # nobody is there any more to read it
        if not orders.backlog:
            self._selector.unregister(orders)
            self._close(orders)

    def _spares(self, client: Connection) -> list[Child]:
        return [child for child in self._children.values() if child.client is client and child.orders is not None]

    def _fork_spare(self, client: Connection) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # Signals are blocked in the server, so those that are sent to the new process at once are kept until it
                # has its own handlers and unblocks all (`signals.reset`).
                pid = forked.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                ours.close()
                with spare.exit_if_it_fails():
                    self._forget()
                spare.wait_for_orders(theirs, self._pid)
        client.sessions.add(pid)
        child = self._children[pid] = Child(pid, client, self._open(ours))
        return child

    def _forget(self) -> None:
        """Close what is the server's alone, in a forked process: a copy left open would hide that a client is gone."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for channel in self._channels:
            channel.close()
        for end in (self._wakeup, self._wakeup_end):
            end.close()
        for fd in self._files:
            os.close(fd)

    def _signal(self, client: Connection, ids: tuple[int, ...], number: int) -> None:
        for child in list(self._children.values()):
            if child.client is client and child.id in ids:
                if number == signal.SIGKILL:
                    self._kill(child)
                else:
                    send_signal(child, number)

    def _kill(self, child: Child) -> None:
        if child.own is not None:
            child.own.shutdown_timeout = 0.0  # `_drop` kills at once what an agent that is killed has started
        signal_group(child.pid, signal.SIGKILL)

    # --- replies -------------------------------------------------------------------------------------------------

    def _tell(self, client: Connection, reply: Message) -> None:
        if client.gone:
            return
        try:
            client.channel.send(reply)
        except ConnectionError:
            return  # the selector sees its end, too
        if client.channel.backlog > _MOST_UNREAD:
            self._drop(client, f"it has not read {client.channel.backlog} bytes of replies")
        else:
            self._watch(client)

    def _watch(self, client: Connection) -> None:
        """Wait for room in the client's socket as long as there is something to be sent, and only then."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.channel.backlog else 0)
        key = self._selector.get_key(client.channel)
        if key.events != events:
            self._selector.modify(client.channel, events, key.data)

    # --- ends ----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            if child is not None and code != 0:
                # What a failed process leaves behind is of no use. As long as the process is not reaped, no other one
                # can get its id.
                signal_group(ended.si_pid, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if child is not None:  # else it was an orphan that the server had adopted
                self._bury(child, code)

    def _bury(self, child: Child, code: int) -> None:
        """Tell a child's client of its end, and end what the child has left behind."""
        if child.orders is not None:
            self._close(child.orders)
        if child.id is not None:
            self._tell(child.client, Exited(child.id, code, time.time()))
        if child.own is not None:
            kill_unmarked(self._children)
        if child.client.gone and not any(other.client is child.client for other in self._children.values()):
            kill_remains_of(child.client, self._children)

    def _drop(self, client: Connection, why: str = "") -> None:
        """Stop what a client that is gone has started: first by SIGTERM, after its shutdown time-out by SIGKILL.

        Args:
            client: it is gone, or is treated as if it were.
            why: if it is not gone by itself; for people.
        """
        if client.gone:
            return
        if why:
            print(f"elastic_hydra: the warm server drops one of its clients: {why}", file=sys.stderr)
        self._selector.unregister(client.channel)
        self._close(client.channel)
        client.gone = True
        self._clients.discard(client)
        client.execute_will()
        started = [child for child in self._children.values() if child.client is client]
        for child in started:
            send_signal(child, signal.SIGTERM)
            send_signal(child, signal.SIGCONT)  # a process that is stopped would not hear of it
            child.kill_at = time.monotonic() + client.shutdown_timeout
        if not started:
            kill_remains_of(client, self._children)

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for client in [client for client in self._clients if client.silent_at <= now]:
            self._drop(client, "it has not said in time that it still works")

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.kill_at is not None and child.kill_at <= now:
                self._kill(child)
                child.kill_at = now + 1.0  # again, should it be stuck in the kernel


def become_server(sock: socket.socket, stock: inherited.Stock) -> NoReturn:
    """Turn this process into a warm server for the client at the other end of `sock`, which is told when it is ready.

    Args:
        sock: the connection.
        stock: what there was before the fork.
    """
    code = 1
    try:
        context.change(role=Role.server, server_environment=dict(os.environ), launch_directory=os.getcwd())
        try:
            fork_safety.check_not_poisoned()
        except CannotFork as error:
            send(sock, CannotServe(str(error)))
            os._exit(0)
        send(sock, Ready())
        standard_input.keep()
        forked.freeze(stock)
        Server(sock).run()
        if not context.current().descends_from_launcher:  # else those objects are the launcher's, which finalizes them
            ending.finalize_all()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)
