"""The Ray cluster that a driver joins, and what Ray says, in words."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray
import ray.exceptions

from elastic_hydra import timeouts
from elastic_hydra.compat.ray import address_of_cluster
from elastic_hydra.hosts.ray_actor import HostActor

__all__ = ["Demand", "connect", "in_words"]

_KEY = "hydra.launcher.hosts.address"
_EMBEDDED = "local"
"""The address of a cluster that is made for one driver, on its machine, and ends with it."""
_STORE = 80 << 20
"""Bytes of memory for Ray's objects, of which hosts have none; Ray takes no less."""
_GUESSES = ("Some common causes include", "There are some potential root causes")
"""With one of these, Ray begins to list what may be the cause of anything."""


class Demand(NamedTuple):
    """What a host holds of a node, in Ray's own terms."""

    cpus: float
    gpus: float
    resources: Mapping[str, float]

    @classmethod
    def complete(cls, cpus: float | None, gpus: float | None, resources: Mapping[str, float]) -> Demand:
        """Complete what somebody asks for: None means as much as the largest node of the cluster has."""
        largest = max(_nodes(), key=lambda node: (node.get("GPU", 0.0), node.get("CPU", 0.0)), default={})
        return cls(
            largest.get("CPU", 1.0) if cpus is None else cpus,
            largest.get("GPU", 0.0) if gpus is None else gpus,
            resources,
        )

    def actor(self) -> Any:
        """Ask Ray for an actor that holds it, on whatever node has that first; until then the demand is pending."""
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}
        return ray.remote(HostActor).options(scheduling_strategy="SPREAD", **options).remote()

    def obstacle(self) -> str | None:
        """Say why no node that is there can meet it, were the node empty; None: one can."""
        wanted = self._amounts()
        if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in _nodes()):
            return None
        amounts = ", ".join(f"{name}: {amount:g}" for name, amount in wanted.items())
        return f"no node of the Ray cluster has {{{amounts}}}: this host waits until there is one"

    def _amounts(self) -> dict[str, float]:
        every = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in every.items() if amount}


def _nodes() -> list[dict[str, float]]:
    """Return what each node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def connect(address: str) -> str:
    """Join a cluster.

    Args:
        address: of its head, `HOST:PORT`; `auto`: of the one that `RAY_ADDRESS` names or that runs on this machine;
            `local`: a new one.

    Returns:
        the address that this machine has for the nodes.

    Raises:
        ConnectionError: it cannot be joined; the text says what to do.
    """
    of_a_new_one: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE}
    if address != _EMBEDDED:
        of_a_new_one = {}
        _check_head(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **of_a_new_one)
    except Exception as error:
        raise ConnectionError(
            f"{_KEY}={address}: the Ray cluster cannot be joined: {in_words(error)}. If it wants a token, as clusters "
            "do that `ray start` has started, set RAY_AUTH_MODE=token, and bring the head's ~/.ray/auth_token here"
        ) from error
    return str(ray.util.get_node_ip_address())


def _check_head(address: str) -> None:
    """Look whether anybody is there, whom Ray itself would try to reach for minutes.

    Raises:
        ConnectionError: nobody is.
    """
    advice = f"start a cluster by `ray start --head`, set {_KEY} to the address of a head that runs, or to {_EMBEDDED}"
    try:
        head = str(address_of_cluster(address))
    except ConnectionError:
        raise ConnectionError(f"{_KEY}={address}: no Ray cluster runs on this machine: {advice}") from None
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeouts.RAY_HEAD).close()
    except (OSError, ValueError) as error:
        source = ""
        if address == "auto":
            source = " (from RAY_ADDRESS)" if os.environ.get("RAY_ADDRESS") else " (from Ray's temporary folder)"
        raise ConnectionError(
            f"{_KEY}={address}: no Ray cluster answers at {head}{source}: {error}: {advice}"
        ) from None


def in_words(error: BaseException) -> str:
    """Say in one line what is wrong; Ray's own texts are long, and begin with names of its internal objects."""
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        cause = error.cause
        return str(cause) if isinstance(cause, OSError) else f"{type(cause).__name__}: {cause}"
    text = str(error) or type(error).__name__
    for guess in _GUESSES:
        text = text.partition(guess)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    if isinstance(error, ray.exceptions.RayActorError) and len(lines) > 1:
        lines = lines[1:]  # the first says only that the actor died
    return " ".join(lines)
