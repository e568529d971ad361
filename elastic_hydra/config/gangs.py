"""Jobs of several nodes whose launcher gives them their hosts: what of `hydra.launcher.rendezvous` is theirs to say."""

from __future__ import annotations

import dataclasses

from elastic_hydra.config.backends import ON_ONE_NODE, backend_of
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.nodes import Nodes
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.rendezvous import Rendezvous, RendezvousConfig, rendezvous_of

__all__ = ["rendezvous_of_gang"]

_BACKEND = "static"
"""The launcher knows all nodes and their ranks."""
_MAY_SAY = ("backend", "endpoint", "join_timeout", "configs")


def rendezvous_of_gang(keys: RendezvousConfig, nodes: Nodes, facts: HostFacts, problems: Problems) -> Rendezvous:
    """Check the keys for a job whose nodes are hosts of one launcher, and put them into torch's terms.

    Args:
        keys: `hydra.launcher.rendezvous`. The launcher itself knows all that differs from node to node.
        nodes: the numbers of nodes that the job may have.
        facts: of a host.
        problems: takes what is wrong.

    Returns:
        where the nodes meet; with an empty endpoint: at a store of node 0's, whose address is not known yet.
    """
    for field in dataclasses.fields(keys):
        value = getattr(keys, field.name)
        if field.name not in _MAY_SAY and value is not None:
            problems.add(
                f"rendezvous.{field.name}", value, "one launcher starts all nodes, and tells them: leave it out"
            )
    if keys.backend not in (ON_ONE_NODE, _BACKEND):
        what = f"a job on several hosts of one launcher meets by {_BACKEND}: leave it out"
        problems.add("rendezvous.backend", keys.backend, what)
    if not keys.endpoint.strip():
        timeout = {} if keys.join_timeout is None else {backend_of(_BACKEND).keys["join_timeout"]: keys.join_timeout}
        return Rendezvous(_BACKEND, "", {**keys.configs, **timeout})
    plain = RendezvousConfig(
        backend=_BACKEND, endpoint=keys.endpoint, node_rank=0, join_timeout=keys.join_timeout, configs=keys.configs
    )
    return rendezvous_of(plain, Nodes(nodes.most, nodes.most), facts, problems)
