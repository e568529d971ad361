"""Whether processes reach each other: on this host, and from other hosts."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil

from elastic_hydra.doctor.finding import Finding, problem, warning, well

__all__ = ["look"]

_PART = "network"
_SLOW = 2.0
"""Seconds from which looking up a name is slow: each worker does it, and gloo does it for each connection."""
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")

Resolve = Callable[[str], Sequence[str]]


def look(environ: Mapping[str, str] = os.environ, resolve: Resolve | None = None) -> Iterator[Finding]:
    """Yield what is found about loopback, the host's name and the interfaces that the environment names.

    Args:
        environ: the environment.
        resolve: returns the addresses of a name, or raises an OSError; None: as the system does it.
    """
    yield _loopback()
    yield _name(socket.gethostname(), resolve or _addresses)
    for variable in _INTERFACES:
        yield from _interface(variable, environ.get(variable, ""))


def _loopback() -> Finding:
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname(), timeout=5.0).close()
    except OSError as error:
        text = f"127.0.0.1 cannot be reached ({error}): no job can start"
        return problem(_PART, text, "bring the interface up (ip link set lo up), or allow it in the firewall")
    return well(_PART, "127.0.0.1 can be reached")


def _name(name: str, resolve: Resolve) -> Finding:
    """Say whether other hosts would reach this one by the name under which it takes part in a rendezvous."""
    reachable = _reachable()
    use = f"hydra.launcher.rendezvous.local_addr={reachable[0] if reachable else 'ADDRESS'}"
    advice = f"for jobs on several nodes, set {use}, or put the name with that address into /etc/hosts"
    begin = time.monotonic()
    try:
        found = list(dict.fromkeys(resolve(name)))
    except OSError as error:
        return warning(_PART, f"the name of this host, {name}, has no address ({error})", advice)
    seconds = time.monotonic() - begin
    where = f"the name of this host, {name}, stands for {', '.join(found)}"
    if seconds > _SLOW:
        return warning(_PART, f"{where}, found out only after {seconds:.0f} s", "put it into /etc/hosts")
    if all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found):
        return warning(_PART, f"{where}: other hosts cannot reach that", advice)
    if not set(found) & set(_own()):
        return warning(_PART, f"{where}, which is no address of this host (it has {', '.join(reachable)})", advice)
    return well(_PART, where)


def _interface(variable: str, value: str) -> Iterator[Finding]:
    """Yield a problem when a variable names an interface that is not there; NCCL takes prefixes and exclusions, too."""
    prefix, exact = value.lstrip("^="), variable != "NCCL_SOCKET_IFNAME" or value.startswith("=")
    names = psutil.net_if_addrs()
    for wanted in filter(None, prefix.split(",")):
        there = wanted in names if exact else any(name.startswith(wanted) for name in names)
        if not there and not value.startswith("^"):
            text = f"{variable}={value} names an interface that is not there: {wanted}"
            yield problem(_PART, text, f"choose one of {', '.join(sorted(names))}, or unset the variable")


def _addresses(name: str) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def _own() -> list[str]:
    families = (socket.AF_INET, socket.AF_INET6)
    found = (address for addresses in psutil.net_if_addrs().values() for address in addresses)
    return [address.address.partition("%")[0] for address in found if address.family in families]


def _reachable() -> list[str]:
    """Return the addresses of this host that other hosts might reach, those of IPv4 first."""
    own = []
    for address in _own():
        with contextlib.suppress(ValueError):
            own.append(ipaddress.ip_address(address))
    outside = [address for address in own if not address.is_loopback and not address.is_link_local]
    return [str(address) for address in sorted(outside, key=lambda address: address.version)]
