"""The Ray actor of a host: it starts the host process, and carries that process's bytes to the launcher's Ray driver.

::

    ray_driver  ══ TCP: stream ═══  actor  ══ socket pair ══  host process, a child of init
                ── TCP: console ────────────────────────────  its standard error

The actor connects to the driver, so nothing listens on the host. Each connection begins with a token that is an
argument of the actor's. The host process starts when the driver has answered.

Who dies with whom: Ray kills an actor, and its children, without a warning when the driver or the raylet ends. So the
host process is no child of the actor: it sees its stream end, and ends everything in order. The console ends with the
host process, not before: only that process and those below it hold this end of it.

A worker of Ray's loads this module, which imports nothing but the standard library. Executed as a program, it becomes
the host process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CHUNK", "GO", "HostActor", "Order"]

CHUNK = 1 << 18
"""Bytes that are carried at once, at most."""
GO = b"!"
"""What the driver says when both connections are there: the host process may start."""
_CONNECT = 30.0
"""Seconds within which the driver must be reached."""
_OF_RAY = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT")
"""Variables that Ray sets for what runs in its own workers; agents and workers of ours have other values."""


@dataclass(frozen=True)
class Order:
    """What an actor is to start, and whom it is to connect to."""

    address: tuple[str, int]
    """Where the driver listens."""
    stream_token: bytes
    console_token: bytes
    argv: Sequence[str]
    """The command of the host process."""
    has_gpus: bool
    """Whether Ray has given GPUs to the actor."""


class HostActor:
    """Runs one host process."""

    def run(self, order: Order) -> None:
        """Start the host process, and carry its bytes until it has ended, or the driver has.

        Raises:
            OSError: the driver cannot be reached from here, or the host process cannot be started.
        """
        with _connected(order.address, order.stream_token) as stream:
            ours, theirs = socket.socketpair()
            with ours:
                with theirs, _connected(order.address, order.console_token) as console:
                    if console.recv(1) != GO:
                        return
                    _start_orphan(order, theirs, console)
                threading.Thread(target=_carry, args=(stream, ours), daemon=True).start()
                _carry(ours, stream)


def _connected(address: tuple[str, int], token: bytes) -> socket.socket:
    try:
        connection = socket.create_connection(address, timeout=_CONNECT)
    except OSError as error:
        raise OSError(f"{address[0]}, port {address[1]}, where the launcher is, cannot be reached: {error}") from None
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(token)
    return connection


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes until the source ends, then end the target."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _start_orphan(order: Order, stream: socket.socket, console: socket.socket) -> None:
    """Start a program that is no child of this process."""
    subprocess.run(
        [sys.executable, "-I", __file__, *order.argv],
        stdin=stream.fileno(),
        stdout=stream.fileno(),
        stderr=console.fileno(),
        env=_environment(os.environ, order.has_gpus),
        check=True,
    )


def _environment(own: Mapping[str, str], has_gpus: bool) -> dict[str, str]:
    """Return that of the host process: the actor's, without what is meant for code of Ray's."""
    environment = {name: value for name, value in own.items() if name not in _OF_RAY}
    if not has_gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides none from an actor that has none
    return environment


def _become_orphan(argv: Sequence[str]) -> None:
    """Be that program in a session of its own, while the parent ends."""
    if os.fork():
        os._exit(0)
    os.setsid()
    # Workers of Ray's block SIGINT, and everything below the host process would inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _become_orphan(sys.argv[1:])
