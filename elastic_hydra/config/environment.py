"""`hydra/launcher/rendezvous=environment`: the keys of a rendezvous, filled in from the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from elastic_hydra.config.backends import ENVIRONMENT, ON_ONE_NODE, backend_of
from elastic_hydra.config.nodes import Nodes, nodes_of
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.rendezvous import RendezvousConfig
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.tasks import Tasks, TasksError, tasks_of

__all__ = ["with_environment"]

_PROFILE = "hydra/launcher/rendezvous=environment"
_DEFAULT_NODES: Any = ElasticConfig().nodes


def with_environment(keys: ElasticConfig, environ: Mapping[str, str], problems: Problems) -> tuple[ElasticConfig, str]:
    """Fill in what the environment says of the nodes, where the backend is `environment`.

    Args:
        keys: of a job. Those of a rendezvous that are set win over the environment.
        environ: the environment variables of this process.
        problems: takes what is wrong.

    Returns:
        the keys, with another backend; and in one line what people should know of the nodes, empty if it is nothing.
    """
    if keys.rendezvous.backend != ENVIRONMENT:
        return keys, _lone(environ) if keys.rendezvous.backend == ON_ONE_NODE else ""
    try:
        tasks = tasks_of(environ)
    except TasksError as error:
        problems.add("rendezvous.backend", ENVIRONMENT, str(error))
        problems.raise_any()
    nodes = _nodes(keys.nodes, tasks, problems)
    problems.raise_any()
    rendezvous = _rendezvous(keys.rendezvous, nodes, tasks)
    if nodes.most > 1 and not rendezvous.endpoint:
        told = ", ".join(_shown(tasks, environ))
        problem = f"is not in the environment, which says {told}: set it to node 0's HOST:PORT, or MASTER_ADDR"
        problems.add("rendezvous.endpoint", "''", problem)
        problems.raise_any()
    text = str(nodes.least) if nodes.least == nodes.most else f"{nodes.least}:{nodes.most}"
    return dataclasses.replace(keys, nodes=text, rendezvous=rendezvous), _said(rendezvous, nodes, tasks, environ)


def _lone(environ: Mapping[str, str]) -> str:
    """Say what to do if this launcher is one of several that were started together, and knows nothing of the others."""
    try:
        tasks = tasks_of(environ)
    except TasksError:
        return ""
    if tasks.nodes == "1":
        return ""
    return (
        f"this launcher is one of several ({', '.join(_shown(tasks, environ))}), each of which runs the whole sweep; "
        f"{_PROFILE} makes them the nodes of one job"
    )


def _nodes(value: Any, tasks: Tasks, problems: Problems) -> Nodes:
    """Return the number of nodes: the environment's, or a range that is set and that has it."""
    told = nodes_of(tasks.nodes, problems)
    if value == _DEFAULT_NODES:
        return told
    wanted = nodes_of(value, problems)
    if not (wanted.least <= told.least and told.most <= wanted.most):
        where = f" ({tasks.source[0]})" if tasks.source else ""
        problem = f"the environment says {tasks.nodes}{where}: leave the key out, or start as many launchers"
        problems.add("nodes", value, problem)
    return Nodes(wanted.least, told.most)


def _rendezvous(keys: RendezvousConfig, nodes: Nodes, tasks: Tasks) -> RendezvousConfig:
    """Return the keys with what they leave open, and with the backend that suits the nodes."""
    if nodes.most == 1:
        return dataclasses.replace(keys, backend=ON_ONE_NODE, join_timeout=None)
    node_rank = tasks.node_rank if keys.node_rank is None else keys.node_rank
    backend = tasks.backend or ("static" if nodes.least == nodes.most and node_rank is not None else "c10d")
    has_ranks, is_host = backend_of(backend).has_node_ranks, keys.is_host
    if is_host is None and backend == "c10d" and node_rank is not None:
        is_host = node_rank == 0
    return dataclasses.replace(
        keys,
        backend=backend,
        endpoint=keys.endpoint.strip() or tasks.endpoint,
        node_rank=node_rank if has_ranks else None,
        is_host=is_host,
        id=tasks.id if keys.id is None else keys.id,
    )


def _said(keys: RendezvousConfig, nodes: Nodes, tasks: Tasks, environ: Mapping[str, str]) -> str:
    """Say what came from where."""
    if nodes.most == 1:
        told = ", ".join(_shown(tasks, environ)) or "the environment has no variables of several tasks"
        return f"{_PROFILE}: one node: {told}"
    this = "" if tasks.node_rank is None else f", this one is {tasks.node_rank}"
    which = f"{nodes.most} nodes" if nodes.least == nodes.most else f"{nodes.least} to {nodes.most} nodes"
    return (
        f"{_PROFILE}: {which}{this}; they meet at {keys.endpoint} ({keys.backend}): {', '.join(_shown(tasks, environ))}"
    )


def _shown(tasks: Tasks, environ: Mapping[str, str]) -> list[str]:
    return [f"{name}={environ[name]}" for name in tasks.source]
