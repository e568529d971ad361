"""The process on another host that has a warm server there, and speaks to the launcher over its stream.

::

    launcher ══ stream ══ host process ══ connection ══ warm server ── agents, workers
                            └── journal: an anonymous file, to which agents and workers append

It is a child of sshd, srun's daemon or whatever leads to this host. It translates: what the launcher asks for, it asks
the server for; what the server tells it, it tells the launcher. Lines of the journal go before the end of the process
that may have written them.

Who dies with whom:

- When the stream ends, when the launcher says farewell, or when the lease (`signs_of_life`) has ended, this process
  ends the server, and with it everything, in order. Then it says farewell itself, removes its record from the sweep's
  directory (`journal.host_record`), and ends.
- When the server is lost, so is all that it had started. This process says that in its farewell, and ends.
- When this process is killed, the server ends everything in order: its only client is gone. So it is when somebody has
  stopped this process for longer than its lease: the server knows the end of the lease, too.

What must never happen: somebody else holds the stream, which could then not end; so the first act is to take it from
where every child would find it. Nor does a signal end this process: it is the launcher that decides what to do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from elastic_hydra import timeouts
from elastic_hydra.hosts.environment import merged
from elastic_hydra.hosts.event_file import EventFile
from elastic_hydra.hosts.hello import Hello
from elastic_hydra.hosts.signs_of_life import Lease
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.supervisor.client import Client, Process, ServerLost
from elastic_hydra.supervisor.open_server import open_fresh
from elastic_hydra.supervisor.passing import Pickled
from elastic_hydra.supervisor.protocol import (
    Bye,
    CannotServe,
    Exited,
    Lines,
    Message,
    Open,
    Opened,
    Ping,
    Preload,
    Prepare,
    ProtocolError,
    Refused,
    RemoteStart,
    ResultPart,
    ShutdownTimeout,
    Signal,
    Started,
    Told,
)
from elastic_hydra.supervisor.waiting import ready

__all__ = ["main"]

_TOLD = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the launcher hears of."""

_PART = 1 << 22
"""Bytes of an outcome in one message: signs of life go between two of them."""

_LOOK_INTERVAL = 0.25
"""Seconds between two looks at the journal while something runs."""


class _OverError(Exception):
    """The launcher is gone, silent, or has said farewell."""


class HostProcess:
    """The loop that serves one launcher.

    Args:
        stream: to the launcher.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lease = Lease(timeouts.HOST_HELLO, timeouts.now())
        self._open: Open | None = None
        self._server: Client | None = None
        self._journal = EventFile()
        self._processes: dict[int, Process] = {}
        """Of the launcher's ids."""
        self._said_to_run: set[int] = set()
        self._told: list[int] = []
        """Signals of which the launcher has not heard yet."""
        self._wakeup, self._wakeup_end = socket.socketpair()
        for end in (self._wakeup, self._wakeup_end):
            end.setblocking(False)

    def run(self) -> None:
        """Serve the launcher until one of both ends."""
        self._take_signals()
        self._stream.write(Hello.of_this_process().line())
        reason = ""
        try:
            while self._open is None:
                self._wait([])
            self._serve_with(self._open)
        except (EOFError, ProtocolError, _OverError) as end:
            reason = str(end) or "the launcher is gone"
        except ServerLost as lost:
            reason = next((process.fate for process in self._processes.values() if process.fate), str(lost))
        except Exception as error:
            traceback.print_exc()
            reason = f"the host process failed with {type(error).__name__}: {error}"
        finally:
            self._end_all()
        self._say_farewell(reason)
        if self._open is not None and self._open.record:
            with contextlib.suppress(OSError):  # whoever reads the record then waits until it is out of date
                os.unlink(self._open.record)

    def _take_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        for number in _TOLD:
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._told.append(number)

    # --- the server ----------------------------------------------------------------------------------------------

    def _serve_with(self, orders: Open) -> None:
        try:
            os.chdir(orders.directory)
        except OSError as error:
            self._stream.send(
                CannotServe(
                    f"{orders.directory}, where the launcher was started, cannot be entered there ({error.strerror}): "
                    "all hosts must share that directory with the launcher"
                )
            )
            raise _OverError("there is no server") from error
        environment = merged(orders.environment, os.environ)
        os.environ.clear()
        os.environ.update(environment)
        try:
            reason = "from a fresh interpreter on another host"
            self._server = open_fresh(orders.load, Pickled(orders.shared), reason, shared={}, listener=self)
        except (ServerLost, OSError) as error:
            self._stream.send(CannotServe(str(error)))
            raise _OverError("there is no server") from error
        self._server.listener = None
        with self._server.adopting_orphans():
            self._server.set_shutdown_timeout(orders.shutdown_timeout)
            self._renew(self._server)
            self._stream.send(Opened(self._server.reason, environment, self._journal.path))
            while True:
                self._wait(self._server.waits_for())
                self._server.pump()
                self._pass_on()

    def _renew(self, server: Client) -> None:
        """Tell the server when to end everything by itself, should this process be stopped."""
        server.renew(time.monotonic() + self._lease.end - timeouts.now() + timeouts.HOST_PROCESS)

    def _end_all(self) -> None:
        """End the server and all that it has started."""
        server, self._server = self._server, None
        if server is None:
            return
        late = timeouts.now() - self._lease.end
        if late > 0.0 and not server.lost:
            # This process was stopped, or its machine was. The launcher counts on what runs here to be gone by now.
            with contextlib.suppress(ServerLost):
                server.set_shutdown_timeout(max(0.0, server.shutdown_timeout - late))
        server.close()

    def _say_farewell(self, reason: str) -> None:
        deadline = time.monotonic() + timeouts.HOST_FAREWELL
        with contextlib.closing(self._journal), contextlib.suppress(EOFError):
            self._send_lines()
            self._stream.send(Bye(reason))
            while self._stream.is_behind and (left := deadline - time.monotonic()) > 0.0:
                ready([(self._stream.writer, select.POLLOUT)], left)
                self._stream.flush()

    # --- from the launcher ---------------------------------------------------------------------------------------

    def _wait(self, events: list[tuple[int, int]]) -> None:
        """Wait until there is something to do, and do what the launcher asks for."""
        events = [*events, (self._stream.reader, select.POLLIN), (self._wakeup.fileno(), select.POLLIN)]
        if self._stream.is_behind:
            events += [(self._stream.writer, select.POLLOUT)]
        timeout = max(0.0, self._lease.end - timeouts.now())
        if self._processes:
            timeout = min(timeout, _LOOK_INTERVAL)
        found = ready(events, timeout)
        if self._wakeup.fileno() in found:
            with contextlib.suppress(BlockingIOError):
                self._wakeup.recv(4096)
        if self._stream.writer in found:
            self._stream.flush()
        if self._stream.reader in found:
            self.serve()
        while self._told:
            self._stream.send(Told(self._told.pop(0)), urgent=True)
        if timeouts.now() >= self._lease.end:
            raise _OverError("there was no sign of life of the launcher")

    def fileno(self) -> int:
        """Return what becomes readable when the launcher says something, while the server starts."""
        return self._stream.reader

    def serve(self) -> None:
        """Read what the launcher says, and do it."""
        self._stream.fill()
        while (message := self._stream.take()) is not None:
            self._do(message)

    @property
    def has_requests(self) -> bool:
        """Whether requests wait: they are done at once."""
        return False

    def _do(self, request: Message) -> None:
        server = self._server
        match request:
            case Open() if self._open is None:
                self._open = request
                self._lease = Lease(request.silence, timeouts.now())
            case Ping():
                self._stream.send(self._lease.answer(request, timeouts.now(), time.monotonic()), urgent=True)
                if server is not None:
                    self._renew(server)
            case Bye(reason):
                raise _OverError(reason)
            case RemoteStart(start, payload) if server is not None:
                pickled = None if start.is_program else Pickled(payload)
                self._processes[start.id] = server.start(start.spec, pickled)
            case Signal(ids, number) if server is not None:
                server.signal([process for each in ids if (process := self._processes.get(each))], number)
            case Preload(modules) if server is not None:
                server.preload(modules)
            case Prepare(count) if server is not None:
                server.prepare(count)
            case ShutdownTimeout(seconds) if server is not None:
                server.set_shutdown_timeout(seconds)
            case _:
                raise ProtocolError(f"the launcher has sent {type(request).__name__}, which has no place there")

    # --- to the launcher -----------------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        """Tell the launcher what has become of the processes."""
        self._send_lines()
        for number, process in list(self._processes.items()):
            if process.pid is not None and number not in self._said_to_run:
                self._said_to_run.add(number)
                self._stream.send(Started(number, process.pid))
            if process.exitcode is not None:
                self._send_end(number, process)

    def _send_end(self, number: int, process: Process) -> None:
        if process.refused:
            self._stream.send(Refused(number, process.refused))
        else:
            for data in _parts(process.result_fd):
                self._stream.send(ResultPart(number, data))
            self._stream.send(Exited(number, process.exitcode or 0, process.exit_time))
        assert self._server is not None
        self._server.forget([self._processes.pop(number)])
        self._said_to_run.discard(number)

    def _send_lines(self) -> None:
        if lines := self._journal.new_lines():
            self._stream.send(Lines(lines))


def _parts(fd: int) -> Iterator[bytes]:
    """Read a file that no process writes any more; -1: there is none."""
    position = 0
    while fd >= 0 and (data := os.pread(fd, _PART, position)):
        position += len(data)
        yield data


def _take_stream() -> Stream:
    """Take the stream from where every child of this process would find it."""
    fds = os.dup(0), os.dup(1)  # closed in each program that is executed
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Stream(*fds)


def main(_: list[str]) -> NoReturn:
    """Serve the launcher that standard input and output lead to."""
    HostProcess(_take_stream()).run()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
