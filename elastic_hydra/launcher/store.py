"""The store where the nodes of a sweep meet: a process of its own, which outlives agents and jobs.

torch keeps it in the agent of one node. It dies with that agent, and between two jobs the other nodes may still talk to
the old one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import NoReturn

from elastic_hydra.launcher import worker

__all__ = ["host_store", "own_address"]

_LINGER = 3.0
"""Seconds that the store stays after its launcher has ended, for the last words of the other nodes."""

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
    try:
        # Bound here and now: there is no moment in which the port is free and promised at once.
        listener = socket.create_server(("", port), backlog=512)
    except OSError:
        if is_host:
            raise
        return False
    with listener:
        _hosted[host, port] = subprocess.Popen(
            [*worker.interpreter("store"), str(listener.fileno()), str(port)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
    return True


def main(argv: list[str]) -> NoReturn:
    """Serve the store on an open socket until standard input ends."""
    from torch.distributed import TCPStore

    listener, port = map(int, argv)
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener)
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    time.sleep(_LINGER)
    del store
    os._exit(0)


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
