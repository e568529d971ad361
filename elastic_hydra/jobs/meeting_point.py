"""Where the agents of a gang meet: at a store in the agent of node 0, whose port is a free one.

::

    launcher ── start ──▶ agent of node 0 ── opens a store, says where: StoreOpened ──▶ launcher
        └────── start, with that endpoint ──▶ agents of the other nodes ── meet at the store

The hosts have to reach each other in any case, as the workers' own store is on node 0, too. So nothing has to reach the
launcher, which may be behind a firewall.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch.distributed.elastic.rendezvous import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from elastic_hydra.elastic.rendezvous.listener import store_at
from elastic_hydra.elastic.rendezvous.store_process import await_clients_leave, check_is_store, own_address
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.journal import writer
from elastic_hydra.journal.events import StoreOpened

__all__ = ["check_store_is_reached", "met"]

_ANYWHERE = "192.0.2.1"
"""An address that nobody has: the way towards it is the one to the rest of the world."""


@contextlib.contextmanager
def met(attempt: Attempt) -> Iterator[Attempt]:
    """Open the store where the agents of a job meet, if the agent of this process is to do that, and say where it is.

    Args:
        attempt: as the launcher has sent it.

    Yields:
        the attempt, with the store's endpoint.

    Raises:
        OSError: this host can have no store, or the launcher cannot be told of it.
    """
    node = attempt.node
    if node is None or node.endpoint or attempt.journal_path is None:
        yield attempt
        return
    address = _address(node.others)
    store = store_at(address)
    endpoint = f"{address}:{store.port}"
    writer.append(attempt.journal_path, StoreOpened(num=attempt.job.num, attempt=attempt.number, endpoint=endpoint))
    try:
        yield replace(attempt, node=replace(node, endpoint=endpoint))
    finally:
        await_clients_leave(store.port)  # those that read the last words of this agent


def check_store_is_reached(attempt: Attempt) -> None:
    """Refuse to wait for a store that does not answer: whoever has given its endpoint to a gang has opened it.

    Raises:
        RendezvousConnectionError: this host does not reach it.
    """
    node = attempt.node
    if node is None:
        return
    host, port = parse_rendezvous_endpoint(node.endpoint, default_port=-1)
    try:
        check_is_store(host, port)
    except OSError as error:
        raise RendezvousConnectionError(
            f"node {node.rank}, on host {socket.gethostname()}, cannot reach the store at "
            f"{node.endpoint}, where the nodes meet: {error}. Hosts of one job have to reach each other, at any port: "
            "let the firewall between them allow that, or have such jobs on other hosts (hydra.launcher.hosts)"
        ) from error


def _address(others: Iterable[str]) -> str:
    """Return the address of this host by which others come: that of the way to the first one whose name leads there."""
    found = ""
    for name in others:
        address = own_address(name)
        if address == socket.gethostname():
            continue  # the name means nothing here
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            return address
        found = found or address
    return found or own_address(_ANYWHERE)
