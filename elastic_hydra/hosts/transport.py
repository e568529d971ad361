"""Ways to a host: something that opens a stream of bytes to a host process, says why it ended, and kills it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from elastic_hydra import timeouts
from elastic_hydra.hosts.lines import Lines
from elastic_hydra.supervisor import entry, own_ends

__all__ = ["CommandTransport", "Ended", "Transport", "host_command"]


@dataclass(frozen=True)
class Ended:
    """How a way to a host has ended."""

    code: int
    """Exit code of the program that carried the stream; minus the signal's number when one killed it.

    It is for messages only: srun says 0 for a lost node.
    """
    last_lines: tuple[str, ...] = ()
    """The last lines that the program has written to standard error."""
    host_is_gone: bool = False
    """Whether the host process is known to have ended as well, since whoever runs it says so."""


class Transport(Protocol):
    """Opens the stream to one host process. Only one stream is opened, once; a lost host gets a new transport.

    No method waits for the host: a queue may take hours.
    """

    @property
    def name(self) -> str:
        """What this is, for messages: `ssh n2`."""

    def open(self) -> socket.socket:
        """Start what carries the stream, and return this process's end of it: a stream socket.

        The host process may not run yet. What is written before it does must be kept for it.

        Raises:
            OSError: it cannot be started.
        """

    def fileno(self) -> int:
        """Return what becomes readable when there are new `lines`; -1: there are none, or none any more."""

    def lines(self) -> list[str]:
        """Return the lines, without their ends, that have been written to standard error since the last call.

        These are messages of the transport's and, as soon as the host process runs, what its agents and
        workers write.
        """

    def ended(self) -> Ended | None:
        """Return how it has ended; None: it has not, as far as is known without waiting."""

    def terminate(self) -> None:
        """Begin to end it, without waiting: `kill` follows. So all ways of a sweep end at once."""

    def kill(self) -> None:
        """End it, so that nothing of it is left on this machine, and release what it holds. It may have ended before.

        The host process then sees the end of the stream, or hears nothing any more, and ends by itself.
        """


def host_command(python: str = "") -> list[str]:
    """Return the command line that runs the host process.

    Args:
        python: the interpreter on the host; empty: the path of this one. `elastic_hydra` is found where this process
            has it from, if the host sees that folder, else where that interpreter has it installed.
    """
    command = entry.interpreter("elastic_hydra.hosts.host_process")
    return [python, *command[1:]] if python else command


class CommandTransport:
    """A program whose standard input and output lead to a host process: ssh, srun, `docker exec`, or that process.

    The program runs in a session of its own, so that no signal of the terminal reaches it.

    Args:
        argv: the command line.
        environment: all of the program's environment; None: that of this process.
        name: for messages; empty: the name of the program.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None, name: str = "") -> None:
        self._argv = list(argv)
        self._environment = environment
        self._name = name or os.path.basename(self._argv[0])
        self._program: subprocess.Popen[bytes] | None = None
        self._errors: Lines | None = None
        """Of standard error."""
        self._terminated_at: float | None = None
        """When the program was told to end, on the monotonic clock."""

    @property
    def name(self) -> str:
        """What this is, for messages."""
        return self._name

    def open(self) -> socket.socket:
        """Start the program.

        Raises:
            OSError: it cannot be started.
        """
        assert self._program is None, "a transport opens one stream"
        with own_ends.connected() as (ours, theirs):
            try:
                self._program = subprocess.Popen(
                    self._argv,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise type(error)(f"cannot run {self._argv[0]}: {error.strerror}") from error
        assert self._program.stderr is not None
        own_ends.own(self._program.stderr)
        self._errors = Lines(self._program.stderr)
        return ours

    def fileno(self) -> int:
        """Return what becomes readable when there are new `lines`; -1 when standard error has ended."""
        return -1 if self._errors is None else self._errors.fileno()

    def lines(self) -> list[str]:
        """Return the lines that the program has written to standard error since the last call; it does not wait."""
        return [] if self._errors is None else self._errors.new()

    def ended(self) -> Ended | None:
        """Return how the program has ended; None: it runs, or was not started."""
        if self._program is None:
            return None
        if self._program.returncode is None:
            # It is not reaped: so its process id, by which `kill` finds what it has started, is nobody else's.
            end = os.waitid(os.P_PID, self._program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is None:
                return None
            code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        else:
            code = self._program.returncode
        return Ended(code, self.last_lines())

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines that the program has written to standard error."""
        return () if self._errors is None else self._errors.last()

    def terminate(self) -> None:
        """Send SIGTERM to the program, once."""
        if self._program is not None and self._terminated_at is None and self.ended() is None:
            self._terminated_at = time.monotonic()
            for number in (signal.SIGTERM, signal.SIGCONT):  # one that is stopped would not hear of it
                os.kill(self._program.pid, number)

    def kill(self) -> None:
        """End the program and all that it has started in its session: SIGTERM to the program first, then SIGKILL.

        srun takes the processes of its step away when it gets SIGTERM, but not when it is killed.
        """
        program = self._program
        if program is None:
            return
        if program.returncode is None:
            try:
                self.terminate()
                if self._terminated_at is not None:
                    self._await_end(self._terminated_at + timeouts.TRANSPORT - time.monotonic())
            finally:  # a second Ctrl-C does not wait, and leaves nothing behind either
                for pid in psutil.pids():
                    with contextlib.suppress(OSError):
                        if os.getsid(pid) == program.pid:
                            os.kill(pid, signal.SIGKILL)
                program.wait()
        if self._errors is not None:
            self._errors.close()

    def _await_end(self, timeout: float) -> None:
        """Wait for the end of the program, which is reaped later."""
        deadline = time.monotonic() + timeout
        while self.ended() is None and time.monotonic() < deadline:
            time.sleep(0.01)
