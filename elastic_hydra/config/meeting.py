"""Where the nodes of a job meet: what each rendezvous backend needs, and what it would ignore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elastic_hydra.config.errors import nearest
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.resources import HostFacts

__all__ = ["rendezvous_of"]

_TIMEOUTS = (
    "join_timeout",
    "last_call_timeout",
    "close_timeout",
    "heartbeat_timeout",
    "keep_alive_interval",
    "keep_alive_max_attempt",
    "read_timeout",
)
_BACKEND_KEYS: dict[str, dict[str, str]] = {
    # What each backend reads, and under which name; torch ignores the others without a word.
    "local": {},
    "c10d": {name: name for name in (*_TIMEOUTS, "is_host")},
    "static": {"join_timeout": "timeout"},
    "etcd": {"join_timeout": "timeout", "last_call_timeout": "last_call_timeout"},
    "etcd-v2": {name: name for name in _TIMEOUTS},
}


def rendezvous_of(
    settings: Mapping[str, Any], min_nodes: int, max_nodes: int, facts: HostFacts, problems: Problems
) -> tuple[str, str, dict[str, Any]]:
    backend, endpoint = settings["backend"], settings["endpoint"].strip()
    if backend not in facts.backends:
        known = sorted(facts.backends)
        problems.add("rendezvous.backend", backend, f"must be one of {', '.join(known)}{nearest(backend, known)}")
        return backend, endpoint, {}
    if backend.startswith("etcd"):
        problems.require(facts.has_etcd, "rendezvous.backend", backend, "needs etcd's client: pip install python-etcd")
    if backend == "local" and max_nodes > 1:
        problems.add(
            "rendezvous.backend", backend, f"is for one node, and nodes is up to {max_nodes}: pick c10d, static or etcd"
        )
    endpoint = _endpoint(backend, endpoint, max_nodes, problems)
    configs = _backend_configs(settings, backend, problems)
    if backend == "static":
        configs["rank"] = _node_rank(settings["node_rank"], min_nodes, max_nodes, problems)
    elif settings["node_rank"] is not None:
        problems.add(
            "rendezvous.node_rank", settings["node_rank"], f"only static has node ranks; {backend} hands them out"
        )
    return backend, endpoint, configs


def _endpoint(backend: str, endpoint: str, max_nodes: int, problems: Problems) -> str:
    if backend == "local":
        problems.require(
            not endpoint, "rendezvous.endpoint", endpoint, "local has none: pick c10d, static or etcd, or drop it"
        )
        return ""
    if not endpoint:
        if backend.startswith("etcd") or (max_nodes > 1 and backend in ("c10d", "static")):
            where = "node 0's HOST:PORT" if backend == "static" else "the HOST:PORT where the nodes meet"
            problems.add("rendezvous.endpoint", "''", f"{backend} needs {where}, the same on every node")
        return "127.0.0.1:0" if backend in ("c10d", "static") else ""
    host, colon, port = endpoint.rpartition(":")
    if backend in ("c10d", "static") and not (colon and host and port.isdigit() and int(port) < 65536):
        problems.add("rendezvous.endpoint", endpoint, "must be HOST:PORT, the port a number below 65536")
    if colon and port == "0" and max_nodes > 1:
        problems.add("rendezvous.endpoint", endpoint, "port 0 means any free port, which the other nodes cannot know")
    return endpoint


def _backend_configs(settings: Mapping[str, Any], backend: str, problems: Problems) -> dict[str, Any]:
    configs = dict(settings["configs"])
    names = _BACKEND_KEYS.get(backend, {name: name for name in _TIMEOUTS})
    reads = f"it reads {', '.join(names)}" if names else "it reads none"
    for key in (*_TIMEOUTS, "is_host"):
        value = settings[key]
        if value is None:
            continue
        if key not in names:
            problems.add(f"rendezvous.{key}", value, f"the backend {backend} would ignore it; {reads}")
        elif key != "is_host" and value < 1:
            problems.add(f"rendezvous.{key}", value, "must be 1 or more")
        else:
            configs[names[key]] = value
    if "timeout" in settings["configs"] and backend in ("c10d", "etcd-v2", "local"):
        what = f"the backend {backend} would ignore it"
        hint = "" if backend == "local" else f"; set {ROOT}.rendezvous.join_timeout"
        problems.add("rendezvous.configs.timeout", configs["timeout"], what + hint)
    return configs


def _node_rank(rank: int | None, min_nodes: int, max_nodes: int, problems: Problems) -> int:
    if min_nodes != max_nodes:
        problems.add("nodes", f"{min_nodes}:{max_nodes}", "static has a fixed number of nodes; c10d and etcd can grow")
    if rank is None:
        if max_nodes > 1:
            problems.add("rendezvous.node_rank", None, f"static needs it on every node: 0 to {max_nodes - 1}")
        return 0
    problems.require(0 <= rank < max_nodes, "rendezvous.node_rank", rank, f"must be 0 to {max_nodes - 1}")
    return rank
