"""The rendezvous of a fixed set of nodes."""

from __future__ import annotations

import os
import socket
import time
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from elastic_hydra.config.backends import backend_of

__all__ = ["CLOSED", "StaticRendezvous", "address_of"]

CLOSED = (
    "the rendezvous {} is closed: the job has ended on another node, whose logs say why, or an earlier sweep had the "
    "same id; then start all nodes with the same new hydra.launcher.rendezvous.id"
)
_NODE = "node/{}"
_ROUND = "round/{}"
_IS_CLOSED = "closed"
_POLL = 0.05
"""Seconds between two looks for nodes that are missing."""


class StaticRendezvous(RendezvousHandler):
    """A fixed set of nodes: torch's, but nodes wait for each other here, and restart together.

    Args:
        parameters: as for torch's, with the node's `rank` among them, and `is_host` if it is not node 0's agent that
            hosts the store.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        if "rank" not in parameters.config:
            raise ValueError(
                'rdzv_configs has no "rank": a static rendezvous needs the rank of this node, 0 to '
                f'{parameters.max_nodes - 1}, as rdzv_configs={{"rank": 0}}'
            )
        self._run_id = parameters.run_id
        self._rank = int(parameters.config["rank"])
        self._size = parameters.max_nodes
        self._timeout = float(parameters.get_as_int("timeout", 600) or 600)
        self._endpoint = parameters.endpoint
        host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=-1)
        is_host = parameters.get_as_bool("is_host")
        store = TCPStore(
            host,
            port,
            is_master=self._rank == 0 if is_host is None else bool(is_host),
            multi_tenant=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=self._timeout),
        )
        self._store = PrefixStore(f"elastic_hydra.static.{self._run_id}", store)
        self._me = f"host {socket.gethostname()}, pid {os.getpid()}, {uuid.uuid4().hex[:8]}"
        self._round = 0

    def get_backend(self) -> str:
        """Return `static`."""
        return "static"

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait until all nodes are here, in this round."""
        self._round += 1
        self._claim_rank()
        store = PrefixStore(str(self._round), self._store)
        store.set(_NODE.format(self._rank), self._me)
        self._store.set(_ROUND.format(self._round), "1")
        deadline = time.monotonic() + self._timeout
        missing = list(range(self._size))
        while missing := [rank for rank in missing if not store.check([_NODE.format(rank)])]:
            if self.is_closed():
                raise RendezvousClosedError(CLOSED.format(self._run_id))
            if time.monotonic() > deadline:
                ranks = ", ".join(map(str, missing))
                raise RendezvousTimeoutError(
                    f"node rank {ranks} did not come to {self._endpoint} within {self._timeout:g} s: start all nodes "
                    "with the same command, each with a node rank of its own"
                )
            time.sleep(_POLL)
        return RendezvousInfo(store, self._rank, self._size, RendezvousStoreInfo("", 0))

    def _claim_rank(self) -> None:
        owner = self._store.compare_set(_NODE.format(self._rank), "", self._me).decode()
        if owner == self._me:
            return
        if not self._store.check([_NODE.format(rank) for rank in range(self._size)]):
            self.set_closed()  # the group cannot become complete: nobody is the node that this one should be
        raise ValueError(
            f"node rank {self._rank} is taken ({owner.rsplit(', ', 1)[0]}): give each node a rank of its own, "
            f"0 to {self._size - 1}"
        )

    def is_closed(self) -> bool:
        """Whether the job has ended on a node."""
        return bool(self._store.check([_IS_CLOSED]))

    def set_closed(self) -> None:
        """Let no node wait for this one any more."""
        self._store.set(_IS_CLOSED, "1")

    def num_nodes_waiting(self) -> int:
        """Return 1 if another node restarts its workers and waits for those of this one."""
        return int(self._store.check([_ROUND.format(self._round + 1)]))

    def get_run_id(self) -> str:
        """Return the job's run id."""
        return self._run_id

    def shutdown(self) -> bool:
        """Close it, if the store is still there."""
        try:
            if self._store.compare_set(_NODE.format(self._rank), "", self._me).decode() == self._me:
                self.set_closed()
        except RuntimeError:
            return False
        return True


def address_of(parameters: RendezvousParameters) -> tuple[str | None, int | None]:
    """Return host and port of a static rendezvous, where node 0 is; of others, which say so themselves, two Nones.

    Raises:
        ValueError: the endpoint is empty, or has no port.
    """
    if not backend_of(parameters.backend).has_node_ranks:
        return None, None
    endpoint = parameters.endpoint.strip()
    if not endpoint:
        raise ValueError("the endpoint of a static rendezvous is missing: it must be node 0's HOST:PORT")
    host, port = parse_rendezvous_endpoint(endpoint, default_port=-1)
    if port == -1:
        raise ValueError(f"port is missing in endpoint: {endpoint}; it must be node 0's HOST:PORT")
    return host, port
