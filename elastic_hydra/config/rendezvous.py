"""`hydra.launcher.rendezvous`: where the nodes of a job meet. A key that the chosen backend would ignore is refused."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and Dict, not `|` and `dict`.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from elastic_hydra.config.backends import (
    BACKENDS,
    CAN_GROW,
    ENVIRONMENT,
    FOR_SEVERAL_NODES,
    ON_ONE_NODE,
    TIMEOUTS,
    Backend,
    backend_of,
)
from elastic_hydra.config.errors import nearest
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.nodes import Nodes
from elastic_hydra.config.problems import ROOT, Problems

__all__ = ["Rendezvous", "RendezvousConfig", "rendezvous_of"]


@names_its_keys
@dataclass
class RendezvousConfig:
    """Where the nodes of a job meet: `hydra/launcher/rendezvous=local|environment|c10d|static|etcd`."""

    backend: str = ON_ONE_NODE
    """`local` (one node), `environment` (what suits the variables of `srun`, `mpirun` or Kubeflow), `c10d`, `static`,
    `etcd`, `etcd-v2`, or any name registered with torch."""
    endpoint: str = ""
    """`host:port` where nodes meet; `static`: of node 0. Empty: none, as one node needs none (except with `etcd`)."""
    id: Optional[str] = None
    """Name of the sweep for its nodes, the same on all of them; null: made from the application and its overrides."""
    node_rank: Optional[int] = None
    """`static`: which node this is, from 0; null: not told, as the other backends hand out the ranks."""
    local_addr: Optional[str] = None
    """Address under which the other nodes reach this one; null: that of the way to the endpoint."""
    is_host: Optional[bool] = None
    """`c10d`: whether this node hosts the store; null: the one whose name or address the endpoint has."""
    join_timeout: Optional[int] = None
    """Seconds within which the minimum of nodes must be there; null: torch's default."""
    last_call_timeout: Optional[int] = None
    """Seconds to wait for more nodes when the minimum is there (`c10d`, `etcd`, `etcd-v2`); null: torch's default."""
    close_timeout: Optional[int] = None
    """Seconds within which closing must be done (`c10d`, `etcd-v2`); null: torch's default."""
    heartbeat_timeout: Optional[int] = None
    """Seconds within which one keep-alive must be done (`c10d`, `etcd-v2`); null: torch's default."""
    keep_alive_interval: Optional[int] = None
    """Seconds between keep-alives (`c10d`, `etcd-v2`); null: torch's default."""
    keep_alive_max_attempt: Optional[int] = None
    """Missed keep-alives after which a node counts as dead (`c10d`, `etcd-v2`); null: torch's default."""
    read_timeout: Optional[int] = None
    """Seconds that one operation of the store may take (`c10d`, `etcd-v2`); null: torch's default."""
    configs: Dict[str, Any] = field(default_factory=dict)
    """Anything else for the backend (`--rdzv-conf`); a new key needs `+`."""


@dataclass(frozen=True)
class Rendezvous:
    """Where and how the nodes of a job meet, in torch's terms: computed from the keys."""

    backend: str
    endpoint: str = ""
    """Empty: the backend needs none."""
    configs: Dict[str, Any] = field(default_factory=dict)
    """What goes into `rdzv_configs`."""


def rendezvous_of(keys: RendezvousConfig, nodes: Nodes, facts: HostFacts, problems: Problems) -> Rendezvous:
    """Check the keys, and put them into torch's terms.

    Args:
        keys: `hydra.launcher.rendezvous`.
        nodes: the numbers of nodes that the job may have.
        facts: this host.
        problems: takes what is wrong.
    """
    problems.not_blank("rendezvous.id", keys.id)
    problems.not_blank("rendezvous.local_addr", keys.local_addr)
    name, endpoint = keys.backend, keys.endpoint.strip()
    if name not in facts.backends:
        known = sorted({*facts.backends, ENVIRONMENT})
        problems.add("rendezvous.backend", name, f"must be one of {', '.join(known)}{nearest(name, known)}")
        return Rendezvous(name, endpoint)
    backend = backend_of(name)
    if backend.client and not facts.has_etcd:
        problems.add("rendezvous.backend", name, f"needs etcd's client: pip install {backend.client}")
    if not backend.several_nodes and nodes.most > 1:
        problem = f"is for one node, and nodes is up to {nodes.most}: pick {FOR_SEVERAL_NODES}"
        problems.add("rendezvous.backend", name, problem)
    endpoint = _endpoint(name, backend, endpoint, nodes, problems)
    configs = _configs(keys, backend, problems)
    _check_last_call(keys, nodes, problems)
    if backend.has_node_ranks:
        configs["rank"] = _node_rank(name, keys.node_rank, nodes, problems)
    elif keys.node_rank is not None:
        problems.add("rendezvous.node_rank", keys.node_rank, f"only static has node ranks; {name} hands them out")
    return Rendezvous(name, endpoint, configs)


def _endpoint(name: str, backend: Backend, endpoint: str, nodes: Nodes, problems: Problems) -> str:
    if not backend.several_nodes:
        problem = f"{name} has none: pick {FOR_SEVERAL_NODES}, or drop it"
        problems.require(not endpoint, "rendezvous.endpoint", endpoint, problem)
        return ""
    if not endpoint:
        if backend.needs_endpoint or (nodes.most > 1 and name in BACKENDS):
            where = "node 0's HOST:PORT" if backend.has_node_ranks else "the HOST:PORT where the nodes meet"
            problems.add("rendezvous.endpoint", "''", f"{name} needs {where}, the same on every node")
        return backend.default_endpoint
    host, colon, port = endpoint.rpartition(":")
    if backend.one_of_them_hosts and not (colon and host and port.isdigit() and int(port) < 65536):
        problems.add("rendezvous.endpoint", endpoint, "must be HOST:PORT, the port a number below 65536")
    if colon and port == "0" and nodes.most > 1:
        problems.add("rendezvous.endpoint", endpoint, "port 0 means any free port, which the other nodes cannot know")
    return endpoint


def _configs(keys: RendezvousConfig, backend: Backend, problems: Problems) -> Dict[str, Any]:
    """Gather the values that torch gets, under torch's names, and refuse those that it would ignore."""
    configs = dict(keys.configs)
    reads = f"it reads {', '.join(backend.keys)}" if backend.keys else "it reads none"
    for key in (*TIMEOUTS, "is_host"):
        value = getattr(keys, key)
        if value is None:
            continue
        if key not in backend.keys:
            problems.add(f"rendezvous.{key}", value, f"the backend {keys.backend} would ignore it; {reads}")
        elif key in TIMEOUTS and value < 1:
            problems.add(f"rendezvous.{key}", value, "must be 1 or more")
        else:
            configs[backend.keys[key]] = value
    if "timeout" in keys.configs and keys.backend in BACKENDS and "timeout" not in backend.keys.values():
        hint = f"; set {ROOT}.rendezvous.join_timeout" if backend.keys else ""
        problem = f"the backend {keys.backend} would ignore it{hint}"
        problems.add("rendezvous.configs.timeout", configs["timeout"], problem)
    return configs


def _check_last_call(keys: RendezvousConfig, nodes: Nodes, problems: Problems) -> None:
    """Refuse a wait for more nodes that does not end within the whole wait, with enough nodes there."""
    join, last_call = keys.join_timeout, keys.last_call_timeout
    if nodes.least < nodes.most and join is not None and last_call is not None and last_call >= join:
        what = (
            f"must be less than rendezvous.join_timeout={join}: the first node would give up while it still waits for "
            "more nodes; lower it, or raise rendezvous.join_timeout"
        )
        problems.add("rendezvous.last_call_timeout", last_call, what)


def _node_rank(name: str, rank: Optional[int], nodes: Nodes, problems: Problems) -> int:
    if nodes.least != nodes.most:
        problem = f"{name} has a fixed number of nodes; pick {CAN_GROW}"
        problems.add("nodes", f"{nodes.least}:{nodes.most}", problem)
    if rank is None:
        if nodes.most > 1:
            problems.add("rendezvous.node_rank", None, f"{name} needs it on every node: 0 to {nodes.most - 1}")
        return 0
    problems.require(0 <= rank < nodes.most, "rendezvous.node_rank", rank, f"must be 0 to {nodes.most - 1}")
    return rank
