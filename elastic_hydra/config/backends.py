"""What each rendezvous backend reads, needs and can do: the one table of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["BACKENDS", "ON_ONE_NODE", "TIMEOUTS", "Backend", "backend_of"]

TIMEOUTS = (
    "join_timeout",
    "last_call_timeout",
    "close_timeout",
    "heartbeat_timeout",
    "keep_alive_interval",
    "keep_alive_max_attempt",
    "read_timeout",
)
"""Keys of `hydra.launcher.rendezvous` that are numbers for the backend."""


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


@dataclass(frozen=True)
class Backend:
    """A way for the agents of a job to meet."""

    keys: Mapping[str, str] = field(default_factory=lambda: _same(*TIMEOUTS))
    """Keys of `hydra.launcher.rendezvous` that it reads, and torch's names for them: torch ignores all others without
    a word."""
    several_nodes: bool = True
    """Whether a job may have more than one node."""
    client: str = ""
    """The package that it needs, as `pip` knows it; empty: none besides torch."""
    one_of_them_hosts: bool = False
    """Whether the nodes meet in a store of torch's at HOST:PORT, which one of the nodes hosts."""
    needs_endpoint: bool = False
    """Whether it needs an endpoint for one node, too; backends for several nodes need one for these."""
    has_node_ranks: bool = False
    """Whether each node is told its rank: then their number is fixed, and no node can take the place of a lost one."""
    interval: float = 0.1
    """Seconds between two looks at the other nodes."""
    forgets_after: float | None = None
    """Seconds after which torch forgets a silent node, where that is fixed; None: what the keep-alive keys say."""
    in_memory: bool = False
    """Whether torch's dynamic rendezvous asks a store in memory, which need not be spared."""
    may_be_a_file: bool = False
    """Whether torch can keep the store in a file (`store_type=file`): then the endpoint is a path."""

    @property
    def default_endpoint(self) -> str:
        """Where one node by itself meets nobody; empty: there is no such place."""
        return "127.0.0.1:0" if self.one_of_them_hosts else ""


_ETCD_INTERVAL = 1.0  # a database is made for fewer questions than a store in memory

BACKENDS = {
    "local": Backend(keys={}, several_nodes=False),
    "c10d": Backend(keys=_same(*TIMEOUTS, "is_host"), one_of_them_hosts=True, in_memory=True, may_be_a_file=True),
    "static": Backend(keys={"join_timeout": "timeout"}, one_of_them_hosts=True, has_node_ranks=True),
    "etcd": Backend(
        keys={"join_timeout": "timeout", "last_call_timeout": "last_call_timeout"},
        client="python-etcd",
        needs_endpoint=True,
        interval=_ETCD_INTERVAL,
        forgets_after=10.0,
    ),
    "etcd-v2": Backend(client="python-etcd", needs_endpoint=True, interval=_ETCD_INTERVAL),
}
"""Backends of ours and of torch's, by name."""

ON_ONE_NODE = "local"
"""The backend for a job that has one node and no endpoint."""

_REGISTERED = Backend()
"""What is expected of a backend that somebody else has registered with torch."""


def backend_of(name: str) -> Backend:
    """Return a backend; of one that is not in the table little is known."""
    return BACKENDS.get(name, _REGISTERED)
