"""The store where the nodes of a sweep meet: a process of its own, which outlives agents and jobs.

torch keeps it in the agent of one node. It dies with that agent, and between two jobs the other nodes may still talk to
the old one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from datetime import timedelta
from typing import NoReturn

import psutil
from torch.distributed import TCPStore

from elastic_hydra import timeouts
from elastic_hydra.compat.psutil import connections
from elastic_hydra.elastic.rendezvous.listener import listen, reachable_at
from elastic_hydra.supervisor import entry

__all__ = [
    "NotAStoreError",
    "await_clients_leave",
    "check_is_store",
    "host_store",
    "own_address",
    "wait_for_store",
]

logger = logging.getLogger("elastic_hydra")

_ASKING = timedelta(seconds=timeouts.STORE_ANSWER)
_ENDING = "elastic_hydra/ending"
_MAGIC, _VALIDATE, _PING = 0x3C85F7CE, 0, 13
"""How a client of torch's store introduces itself."""

_hosted: dict[tuple[str, int], subprocess.Popen[bytes]] = {}


def host_store(host: str, port: int, is_host: bool | None) -> bool:
    """Host the store for the rest of this process, if it is this node that shall.

    Args:
        host: the endpoint's name or address.
        port: the endpoint's port.
        is_host: whether this node hosts it; None: when the endpoint is one of its addresses, and nobody else here
            hosts it already.

    Returns:
        whether this node hosts it.

    Raises:
        OSError: `is_host` is true, and the port cannot be had.
    """
    if (host, port) in _hosted:
        return True
    if is_host is False or (is_host is None and not _is_own(host)):
        return False
    listener = _bind(host, port)
    if listener is None and is_host:
        raise OSError(errno.EADDRINUSE, f"port {port} is taken")
    if listener is None:
        return False
    with listener:
        _hosted[host, port] = subprocess.Popen(
            [*entry.interpreter(__name__), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
    return True


def _bind(host: str, port: int) -> socket.socket | None:
    """Take a port here and now, so that there is no moment in which it is free and promised at once.

    Returns:
        the socket; None when the port is in use by something that does not go away: a sweep that has just ended keeps
        its store for some seconds.
    """
    deadline = time.monotonic() + timeouts.STORE_LINGER + 1.0
    while True:
        try:
            return listen(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # A store that ends stops listening, at the latest when its time is up.
        if not _is_ending(host, port) or time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def wait_for_store(host: str, port: int, timeout: float) -> None:
    """Wait until the store answers: the node that hosts it may start last.

    Args:
        host: the endpoint's name or address.
        port: the endpoint's port.
        timeout: seconds.

    Raises:
        OSError: it does not answer in time, or something else does; the message says which.
    """
    started = time.monotonic()
    next_word = started + 5.0
    while True:
        try:
            check_is_store(host, port)
            return
        except OSError as error:
            now = time.monotonic()
            may_end = isinstance(error, _ClosedError) and now - started < 2 * timeouts.STORE_LINGER
            if isinstance(error, NotAStoreError) and not may_end:
                raise
            if now - started > timeout:
                raise TimeoutError(f"no store there after {timeout:g} s: {error}") from error
            if now > next_word:
                logger.warning("waiting for the store at %s:%s (%s): its host has to start, too", host, port, error)
                next_word = now + 30.0
        time.sleep(0.2)


class NotAStoreError(OSError):
    """Something answers, but not as a store does."""


class _ClosedError(NotAStoreError):
    """It ends the connection without a word, as a store does in its last moment."""


def check_is_store(host: str, port: int) -> None:
    """Speak to a store once: torch's client waits for ever for an answer from something that is none.

    Raises:
        NotAStoreError: something else answers, or nothing within a minute.
        OSError: there is no connection.
    """
    with socket.create_connection((host, port), timeout=timeouts.STORE_ANSWER) as connection:
        connection.settimeout(timeouts.STORE_HANDSHAKE)
        nonce = os.urandom(3) + b"\n"  # so that a server of another kind, which reads lines, answers, too
        connection.sendall(struct.pack("=BIB", _VALIDATE, _MAGIC, _PING) + nonce)
        try:
            answer = connection.recv(4)
        except TimeoutError:
            what = f"a program listens there, but says nothing within {timeouts.STORE_HANDSHAKE:g} s"
            raise NotAStoreError(what) from None
    if answer != nonce:
        kind = NotAStoreError if answer else _ClosedError
        raise kind("the program that listens there is no store of torch")


def _is_ending(host: str, port: int) -> bool:
    """Ask the store at a port of this machine whether its sweep is over."""
    try:
        check_is_store(host, port)
        return bool(TCPStore(host, port, is_master=False, timeout=_ASKING).check([_ENDING]))
    except _ClosedError:
        return True
    except NotAStoreError:
        return False
    except (OSError, RuntimeError):
        return True  # it has gone in this moment


def main(argv: list[str]) -> NoReturn:
    """Serve the store on an open socket until standard input ends."""
    (listener,) = map(int, argv)
    with socket.socket(fileno=os.dup(listener)) as same:
        host, port = reachable_at(same)
    store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener)
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    store.set(_ENDING, "1")
    await_clients_leave(port)
    os._exit(0)


def await_clients_leave(port: int) -> None:
    """Wait until no other process has a connection to a store in this one, at most for a moment."""
    deadline = time.monotonic() + timeouts.STORE_LINGER
    while _clients(port) > 0 and time.monotonic() < deadline:
        time.sleep(0.02)


def _clients(port: int) -> int:
    """Count the connections of other processes to a store in this one, which has connections to itself, too."""
    found = [c for c in connections(psutil.Process(), "tcp") if c.status == psutil.CONN_ESTABLISHED and c.raddr]
    return sum(int(c.laddr.port == port) - int(c.raddr.port == port) for c in found)


def own_address(other_host: str) -> str:
    """Find the address of this machine that the way to another one uses, without looking up our own name.

    Args:
        other_host: a name or address.

    Returns:
        a numeric address; this host's name when there is no way.
    """
    with contextlib.suppress(OSError):
        return _route(other_host)[0]
    return socket.gethostname()


def _is_own(host: str) -> bool:
    with contextlib.suppress(OSError):
        source, destination = _route(host)
        return source == destination
    return False


def _route(host: str) -> tuple[str, str]:
    family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # chooses a route; no packet is sent
        return str(probe.getsockname()[0]), str(address[0])
