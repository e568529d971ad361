"""Where the agents of a job meet: the handler that suits a launch."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Mapping
from typing import Any

from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous import registry as rdzv_registry
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

from elastic_hydra.config.backends import FOR_SEVERAL_NODES, backend_of
from elastic_hydra.elastic.rendezvous.local import LocalRendezvous
from elastic_hydra.elastic.rendezvous.per_round_store import FreshStoreRendezvous
from elastic_hydra.elastic.rendezvous.static import StaticRendezvous, address_of
from elastic_hydra.elastic.rendezvous.store_process import NotAStoreError, check_is_store, own_address

__all__ = ["create"]


def _address_for(config: Any) -> str | None:
    """Return the address under which this node takes part in a rendezvous; None where it needs none."""
    if not backend_of(config.rdzv_backend).several_nodes:
        return None
    if _meets_at_a_file(config.rdzv_backend, config.rdzv_configs):
        return "127.0.0.1" if config.max_nodes == 1 else socket.gethostname()
    return own_address(parse_rendezvous_endpoint(config.rdzv_endpoint or "localhost", default_port=0)[0])


def _meets_at_a_file(backend: str, configs: Mapping[str, Any]) -> bool:
    """Whether the endpoint is a path: torch's c10d can keep its store in a file that all nodes see."""
    return backend_of(backend).may_be_a_file and str(configs.get("store_type", "tcp")).strip().lower() == "file"


def _create_local(params: RendezvousParameters) -> RendezvousHandler:
    if params.max_nodes != 1:
        raise ValueError(
            f"rendezvous backend 'local' is for one node, but nodes may be up to {params.max_nodes}: "
            f"use {FOR_SEVERAL_NODES}"
        )
    return LocalRendezvous(params.run_id)


# torch's launcher knows it from now on too, as any other backend.
with contextlib.suppress(ValueError):  # this module was imported before
    rendezvous_handler_registry.register("local", _create_local)


def create(config: Any) -> LocalRendezvous | FreshStoreRendezvous:
    """Make the handler for a launch: torch's, or ours, with a fresh store in every round.

    Args:
        config: the `LaunchConfig`.

    Raises:
        ValueError: the endpoint does not suit the backend.
        RendezvousConnectionError: the store cannot be reached.
    """
    address = config.local_addr or _address_for(config)
    parameters = RendezvousParameters(
        backend=config.rdzv_backend,
        endpoint=config.rdzv_endpoint,
        run_id=config.run_id or uuid.uuid4().hex,
        min_nodes=config.min_nodes,
        max_nodes=config.max_nodes,
        local_addr=address,
        **config.rdzv_configs,
    )
    backend = backend_of(config.rdzv_backend)
    if backend.one_of_them_hosts and not _meets_at_a_file(config.rdzv_backend, config.rdzv_configs):
        _check_endpoint(parameters)
    try:
        handler = (
            StaticRendezvous(parameters) if backend.has_node_ranks else rdzv_registry.get_rendezvous_handler(parameters)
        )
    except (RendezvousConnectionError, RuntimeError) as error:
        why = error.__cause__ or error
        raise RendezvousConnectionError(f"no store at {config.rdzv_endpoint}: {why}") from error
    if isinstance(handler, LocalRendezvous):
        return handler
    return FreshStoreRendezvous(handler, parameters, address or "127.0.0.1")


def _check_endpoint(parameters: RendezvousParameters) -> None:
    """Refuse an endpoint where something else answers: torch would wait there for ever."""
    host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=-1)
    if backend_of(parameters.backend).has_node_ranks and port == -1:
        address_of(parameters)  # raises
    if port <= 0 or parameters.get_as_bool("is_host"):
        return
    try:
        check_is_store(host, port)
    except NotAStoreError as error:
        raise RendezvousConnectionError(f"no store at {parameters.endpoint}: {error}") from error
    except OSError:
        return  # nothing is there yet
