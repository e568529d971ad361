"""What each rendezvous backend reads, needs and can do: the one table of backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BACKENDS",
    "CAN_GROW",
    "ENVIRONMENT",
    "FOR_SEVERAL_NODES",
    "ON_ONE_NODE",
    "TIMEOUTS",
    "Backend",
    "backend_of",
]

TIMEOUTS = (
    "join_timeout",
    "last_call_timeout",
    "close_timeout",
    "heartbeat_timeout",
    "keep_alive_interval",
    "keep_alive_max_attempt",
    "read_timeout",
)
"""Keys of `hydra.launcher.rendezvous` that are time-outs and other numbers for the backend."""


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


@dataclass(frozen=True)
class Backend:
    """A way for the agents of a job to meet."""

    keys: Mapping[str, str] = field(default_factory=lambda: _same(*TIMEOUTS))
    """Keys of `hydra.launcher.rendezvous` that the backend reads, and torch's names for them. Torch ignores all other
    keys silently."""
    several_nodes: bool = True
    """Whether a job may have more than one node."""
    client: str = ""
    """The package that the backend needs, as `pip` knows it; empty: none besides torch."""
    one_of_them_hosts: bool = False
    """Whether the nodes meet in a store of torch's at HOST:PORT, which one of the nodes hosts."""
    needs_endpoint: bool = False
    """Whether the backend needs an endpoint even for one node; for several nodes, every backend needs one."""
    has_node_ranks: bool = False
    """Whether each node is told its rank. Then the number of nodes is fixed, and no node can replace a lost one."""
    interval: float = 0.1
    """Seconds between two looks at the other nodes."""
    forgets_after: float | None = None
    """Seconds after which torch forgets a silent node, where that is fixed; None: what the keep-alive keys say."""
    in_memory: bool = False
    """Whether the store of torch's dynamic rendezvous is in memory, so that it can be asked often."""
    may_be_a_file: bool = False
    """Whether torch can keep the store in a file (`store_type=file`): then the endpoint is a path."""

    @property
    def default_endpoint(self) -> str:
        """The endpoint for one node by itself, which meets nobody; empty: the backend has none."""
        return "127.0.0.1:0" if self.one_of_them_hosts else ""


_ETCD_INTERVAL = 1.0  # etcd is a database: it cannot be asked as often as a store in memory

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
"""The backends of this package and of torch, by name."""


def _in_words(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


FOR_SEVERAL_NODES = _in_words([name for name, backend in BACKENDS.items() if backend.several_nodes])
"""The backends that a job with several nodes can have, for people."""

CAN_GROW = _in_words(
    [name for name, backend in BACKENDS.items() if backend.several_nodes and not backend.has_node_ranks]
)
"""Those of them whose number of nodes may vary, for people."""

ON_ONE_NODE = "local"
"""The backend for a job that has one node and no endpoint."""

ENVIRONMENT = "environment"
"""The word for whichever backend suits what the environment says of this job's nodes."""

_REGISTERED = Backend()
"""What is assumed of a backend that somebody else has registered with torch."""


def backend_of(name: str) -> Backend:
    """Return what is known of a backend: the table's entry, or assumptions about one that is not in the table."""
    return BACKENDS.get(name, _REGISTERED)
