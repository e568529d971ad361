"""Where the agents of a job meet, and where their workers do: a fresh store for every start of a worker group."""

from __future__ import annotations

import contextlib
import socket
import uuid
from datetime import timedelta
from typing import Any

from torch.distributed import HashStore, PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous import registry as rdzv_registry
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.launcher import api as torch_api

from elastic_hydra.launcher.environment import environment
from elastic_hydra.launcher.store import own_address

__all__ = ["FreshStoreRendezvous", "LocalRendezvous", "StaticRendezvous", "address_for", "create", "register"]

_NO_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_TRAINER_STORE = "elastic_hydra/trainer_store"


class LocalRendezvous(RendezvousHandler):
    """The rendezvous of a job on one node: it is complete at once, and needs neither a network nor a name.

    Args:
        run_id: of the job.
    """

    can_grow = False

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._closed = False
        self._trainer_store: TCPStore | None = None

    def get_backend(self) -> str:
        """Return `local`."""
        return "local"

    @property
    def use_agent_store(self) -> bool:
        """Tell the workers that their store is ours, so that all of them are clients."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Make the stores of the next worker group; those of the last one end with it."""
        self._trainer_store = None
        self._trainer_store = _loopback_store()
        info = RendezvousStoreInfo("127.0.0.1", self._trainer_store.port)
        return RendezvousInfo(HashStore(), 0, 1, info)

    def is_closed(self) -> bool:
        """Whether `set_closed` was called."""
        return self._closed

    def set_closed(self) -> None:
        """Close it; there is nobody to tell."""
        self._closed = True

    def num_nodes_waiting(self) -> int:
        """Return 0: no other node can come."""
        return 0

    def get_run_id(self) -> str:
        """Return the job's run id."""
        return self._run_id

    def shutdown(self) -> bool:
        """Close it and give the store back."""
        self._closed = True
        self._trainer_store = None
        return True


class StaticRendezvous(RendezvousHandler):
    """A fixed set of nodes whose store another process hosts; torch's own makes node 0's agent the host.

    Args:
        parameters: as for torch's, with the node's `rank` among them.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run_id = parameters.run_id
        self._rank = int(parameters.config["rank"])
        self._world_size = parameters.max_nodes
        host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=-1)
        timeout = timedelta(seconds=parameters.get_as_int("timeout", 900) or 900)
        try:
            store = TCPStore(host, port, is_master=False, timeout=timeout)
        except Exception as error:
            raise RendezvousConnectionError(f"no store at {parameters.endpoint}: {error}") from error
        self._store = PrefixStore(self._run_id, store)

    def get_backend(self) -> str:
        """Return `static`."""
        return "static"

    def next_rendezvous(self) -> RendezvousInfo:
        """Return at once: who takes part is known."""
        return RendezvousInfo(self._store, self._rank, self._world_size, RendezvousStoreInfo("", 0))

    def is_closed(self) -> bool:
        """Return False."""
        return False

    def set_closed(self) -> None:
        """Do nothing: the next job has a run id of its own."""

    def num_nodes_waiting(self) -> int:
        """Return 0: no other node can come."""
        return 0

    def get_run_id(self) -> str:
        """Return the job's run id."""
        return self._run_id

    def shutdown(self) -> bool:
        """Do nothing."""
        return True


class FreshStoreRendezvous(RendezvousHandler):
    """Any other rendezvous, with a new trainers' store in every round.

    torch makes the store for the workers once and publishes its address once. After a restart they meet the dead
    group's keys; a node that joins later, or one whose store host has gone, waits for an address that nobody writes.

    Args:
        inner: torch's handler.
        address: where other nodes reach this one.
        timeout: seconds that a node waits for the address of the round's store.
    """

    def __init__(self, inner: RendezvousHandler, address: str, timeout: float | None) -> None:
        self._inner = inner
        self._address = address
        self._timeout = timeout or 60.0
        self._round = 0
        self._trainer_store: TCPStore | None = None
        # Only backends that keep a membership can report newcomers; for the others polling would be in vain.
        self.can_grow = inner.get_backend() != "static"

    def get_backend(self) -> str:
        """Return the backend's name."""
        return self._inner.get_backend()

    @property
    def use_agent_store(self) -> bool:
        """Tell the workers that their store is an agent's, so that all of them are clients."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Meet the other nodes, and agree on a new store for this round's workers."""
        self._trainer_store = None
        with environment(_NO_SHARED_STORE, "1"):
            info = self._inner.next_rendezvous()
        self._round += 1
        # The static backend has one store for all rounds; the other ones prefix it, and twice does no harm.
        store = PrefixStore(str(self._round), info.store) if self.get_backend() == "static" else info.store
        if info.rank == 0:
            self._trainer_store = TCPStore(self._address, 0, is_master=True, wait_for_workers=False)
            store.set(_TRAINER_STORE, f"{self._address} {self._trainer_store.port}")
        address, port = self._read(store).split()
        return RendezvousInfo(store, info.rank, info.world_size, RendezvousStoreInfo(address, int(port)))

    def _read(self, store: Store) -> str:
        store.wait([_TRAINER_STORE], timedelta(seconds=self._timeout))
        return store.get(_TRAINER_STORE).decode()

    def is_closed(self) -> bool:
        """Ask the backend."""
        return self._inner.is_closed()

    def set_closed(self) -> None:
        """Tell the backend."""
        self._inner.set_closed()

    def num_nodes_waiting(self) -> int:
        """Ask the backend."""
        return self._inner.num_nodes_waiting()

    def get_run_id(self) -> str:
        """Return the job's run id."""
        return self._inner.get_run_id()

    def shutdown(self) -> bool:
        """Tell the backend, and give the store back."""
        self._trainer_store = None
        return self._inner.shutdown()


def _loopback_store() -> TCPStore:
    """Make a store that only this machine can reach, at a port that is taken from the start."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # The store owns the socket from here on.
    return TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach(), use_libuv=True
    )


def address_for(backend: str, endpoint: str) -> str | None:
    """Return the address under which this node takes part in a rendezvous; None where it needs none."""
    if backend == "local":
        return None
    return own_address(parse_rendezvous_endpoint(endpoint or "localhost", default_port=0)[0])


def _create_local(params: RendezvousParameters) -> RendezvousHandler:
    if params.max_nodes != 1:
        raise ValueError(
            f"rendezvous backend 'local' is for one node, but nodes may be up to {params.max_nodes}: "
            "use c10d, static or etcd"
        )
    return LocalRendezvous(params.run_id)


def register() -> None:
    """Make `local` known to torch's registry, as any other backend."""
    with contextlib.suppress(ValueError):  # it is there already
        rendezvous_handler_registry.register("local", _create_local)


def create(config: Any) -> RendezvousHandler:
    """Make the handler for a launch: torch's, or ours, with a fresh store in every round.

    Args:
        config: the `LaunchConfig`.

    Raises:
        ValueError: the endpoint does not suit the backend.
        RendezvousConnectionError: the store cannot be reached.
    """
    register()
    address = config.local_addr or address_for(config.rdzv_backend, config.rdzv_endpoint)
    parameters = RendezvousParameters(
        backend=config.rdzv_backend,
        endpoint=config.rdzv_endpoint,
        run_id=config.run_id or uuid.uuid4().hex,
        min_nodes=config.min_nodes,
        max_nodes=config.max_nodes,
        local_addr=address,
        **config.rdzv_configs,
    )
    if config.rdzv_backend == "static":
        torch_api._get_addr_and_port(parameters)  # raises for an endpoint without a port
        if parameters.get_as_bool("is_host") is False:
            return FreshStoreRendezvous(StaticRendezvous(parameters), str(address), parameters.get_as_int("timeout", 900))
    handler = rdzv_registry.get_rendezvous_handler(parameters)
    if isinstance(handler, LocalRendezvous):
        return handler
    return FreshStoreRendezvous(handler, address or "127.0.0.1", parameters.get_as_int("read_timeout", 60))
