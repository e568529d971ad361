"""Where stores listen: at the one address where their clients look for them, since torch unpickles what is in them."""

from __future__ import annotations

import codecs
import errno
import ipaddress
import logging
import socket

from torch.distributed import TCPStore

__all__ = ["listen", "reachable_at", "store_at"]

logger = logging.getLogger("elastic_hydra")

_BACKLOG = 512

codecs.lookup("idna")  # `getaddrinfo` needs it for each name: loaded here once, and not in each process that is forked


def listen(host: str, port: int) -> socket.socket:
    """Listen at the address that a name stands for, and at no other.

    Where that is not an address of this machine, or one that no other machine can reach, all of them have to do: behind
    a forwarded port, or where /etc/hosts gives a machine's own name the address 127.0.1.1.

    Args:
        host: the name or address by which clients come.
        port: where; 0: a free one.

    Raises:
        OSError: the port is taken, or the name is not known.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found.sort(key=lambda address: address[0] != socket.AF_INET)  # a name with both kinds is looked up under both
    family, _, _, _, address = found[0]
    if _is_loopback(str(address[0])) and not _is_loopback(host):
        return _everywhere(f"{host} is {address[0]} here, which no other node can reach", port)
    try:
        return socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    return _everywhere(f"{host} is {address[0]}, which is no address of this machine", port)


def _everywhere(why: str, port: int) -> socket.socket:
    logger.warning("%s: the store for the nodes listens at all addresses; see who can reach them", why)
    return socket.create_server(("", port), backlog=_BACKLOG)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost", "localhost.localdomain") or host.endswith(".localhost")


def reachable_at(listener: socket.socket) -> tuple[str, int]:
    """Return the address and port at which this machine itself reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def store_at(host: str) -> TCPStore:
    """Make a store that clients reach by this name only, at a port that is taken from the start."""
    listener = listen(host, 0)
    address, port = reachable_at(listener)
    # The store owns the socket from here on.
    return TCPStore(
        address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach(), use_libuv=True
    )
