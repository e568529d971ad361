"""Where the agents of a job meet, and where their workers do: a fresh store for every start of a worker group."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from torch.distributed import HashStore, PrefixStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous import registry as rdzv_registry
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
    DynamicRendezvousHandler,
    _DistributedRendezvousOpExecutor,
    _RendezvousExitOp,
)
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.launcher import api as torch_api

from elastic_hydra.launcher.environment import environment
from elastic_hydra.launcher.seam import with_globals
from elastic_hydra.launcher.store import NotAStoreError, check_is_store, own_address

__all__ = ["FreshStoreRendezvous", "LocalRendezvous", "StaticRendezvous", "address_for", "create", "register"]

_NO_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_TRAINER_STORE = "elastic_hydra/trainer_store"
_NODE = "node/{}"
_ROUND = "round/{}"
_STATIC_CLOSED = "closed"
_STATIC_POLL = 0.05
"""Seconds between two looks for nodes that are missing."""
_CLOSED = (
    "the rendezvous {} is closed: the job has ended on another node, whose logs say why, or an earlier sweep had the "
    "same id; then start all nodes with the same new hydra.launcher.rendezvous.id"
)


class LocalRendezvous(RendezvousHandler):
    """The rendezvous of a job on one node: it is complete at once, and needs neither a network nor a name.

    Args:
        run_id: of the job.
    """

    can_grow = False
    elastic = False

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

    def leave(self) -> None:
        """Give the store back."""
        self._trainer_store = None


class StaticRendezvous(RendezvousHandler):
    """A fixed set of nodes: torch's, but nodes wait for each other here, and restart together.

    Args:
        parameters: as for torch's, with the node's `rank` among them, and `is_host` if it is not node 0's agent that
            hosts the store.
    """

    def __init__(self, parameters: RendezvousParameters) -> None:
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
                raise RendezvousClosedError(_CLOSED.format(self._run_id))
            if time.monotonic() > deadline:
                ranks = ", ".join(map(str, missing))
                raise RendezvousTimeoutError(
                    f"node rank {ranks} did not come to {self._endpoint} within {self._timeout:g} s: start all nodes "
                    "with the same command, each with a node rank of its own"
                )
            time.sleep(_STATIC_POLL)
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
        return bool(self._store.check([_STATIC_CLOSED]))

    def set_closed(self) -> None:
        """Let no node wait for this one any more."""
        self._store.set(_STATIC_CLOSED, "1")

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


class FreshStoreRendezvous(RendezvousHandler):
    """Any other rendezvous, with a new trainers' store in every round.

    torch makes the store for the workers once and publishes its address once. After a restart they meet the dead
    group's keys; a node that joins later, or one whose store host has gone, waits for an address that nobody writes.

    Args:
        inner: torch's handler, or ours.
        parameters: what it was made from.
        address: where other nodes reach this one.
    """

    def __init__(self, inner: RendezvousHandler, parameters: RendezvousParameters, address: str) -> None:
        self._inner = inner
        self._parameters = parameters
        self._address = address
        self._timeout = float(parameters.get_as_int("read_timeout", 60) or 60)
        self._trainer_store: TCPStore | None = None
        self._waiting = (0, 0.0)
        backend = inner.get_backend()
        self.elastic = parameters.min_nodes < parameters.max_nodes
        """Whether the group goes on with fewer nodes."""
        self.can_grow = parameters.max_nodes > 1
        """Whether other nodes have to be watched."""
        self.can_replace = backend != "static"
        """Whether another node can take the place of a lost one."""
        self.patience = _patience(backend, parameters)
        """Seconds without a sign of life after which a node counts as lost."""
        self.interval = 1.0 if backend == "etcd" or backend == "etcd-v2" else 0.1
        """Seconds between two looks at the others; etcd is made for fewer questions than a store in memory."""

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
        with environment(_NO_SHARED_STORE, "1"), self._in_words():
            info = _next_rendezvous(self._inner)
            if info.rank == 0:
                self._trainer_store = TCPStore(self._address, 0, is_master=True, wait_for_workers=False)
                info.store.set(_TRAINER_STORE, f"{self._address} {self._trainer_store.port}")
            info.store.wait([_TRAINER_STORE], timedelta(seconds=self._timeout))
            address, port = info.store.get(_TRAINER_STORE).decode().split()
        return RendezvousInfo(info.store, info.rank, info.world_size, RendezvousStoreInfo(address, int(port)))

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Give torch's errors, which are mostly empty, a text that says what to do."""
        where, run_id = self._parameters.endpoint, self._parameters.run_id
        try:
            yield
        except RendezvousClosedError as error:
            raise RendezvousClosedError(str(error) or _CLOSED.format(run_id)) from error
        except RendezvousTimeoutError as error:
            text = (
                f"fewer than {self._parameters.min_nodes} nodes came to {where} within the join timeout: start all "
                f"nodes with the same command (this one looks for nodes of {run_id})"
            )
            raise RendezvousTimeoutError(str(error) or text) from error
        except RendezvousConnectionError as error:
            raise RendezvousConnectionError(f"the store at {where} is gone: {error.__cause__ or error}") from error

    def is_closed(self) -> bool:
        """Ask the backend."""
        return self._inner.is_closed()

    def set_closed(self) -> None:
        """Tell the backend."""
        self._inner.set_closed()

    def num_nodes_waiting(self) -> int:
        """Ask the backend, not too often."""
        count, at = self._waiting
        if time.monotonic() - at >= self.interval:
            with self._in_words():
                count = self._inner.num_nodes_waiting()
            self._waiting = (count, time.monotonic())
        return count

    def get_run_id(self) -> str:
        """Return the job's run id."""
        return self._inner.get_run_id()

    def shutdown(self) -> bool:
        """Tell the backend, and give the store back."""
        self._trainer_store = None
        return self._inner.shutdown()

    def leave(self) -> None:
        """Take part no more, without ending the job for the other nodes, and without their having to miss this one."""
        self._trainer_store = None
        if isinstance(self._inner, DynamicRendezvousHandler):
            with contextlib.suppress(Exception):  # then it is missed
                self._inner._stop_heartbeats()
                deadline = time.monotonic() + self._inner.settings.timeout.close.total_seconds()
                self._inner._op_executor.run(_RendezvousExitOp(), deadline)


# --- torch's dynamic rendezvous, without its pauses ----------------------------------------------------------------


def _pause(seconds: float | tuple[float, float]) -> None:
    """Stand for torch's `_delay`: a store in memory can be asked ten times a second while nodes come together."""
    time.sleep(0.0 if isinstance(seconds, tuple) else min(seconds, 0.1))


class _QuickExecutor(_DistributedRendezvousOpExecutor):
    run = with_globals(_DistributedRendezvousOpExecutor.run, _delay=_pause)


_quick_next_rendezvous = with_globals(DynamicRendezvousHandler.next_rendezvous, _delay=_pause)


def _quicken(handler: RendezvousHandler) -> RendezvousHandler:
    """Make a node see within a tenth of a second that the group is complete; torch looks once a second."""
    if isinstance(handler, DynamicRendezvousHandler) and handler.get_backend() == "c10d":
        handler._op_executor = _QuickExecutor(handler._this_node, handler._state_holder, handler.settings)
    return handler


def _next_rendezvous(handler: RendezvousHandler) -> RendezvousInfo:
    if not isinstance(getattr(handler, "_op_executor", None), _QuickExecutor):
        return handler.next_rendezvous()
    holder: Any = handler._state_holder  # type: ignore[attr-defined]
    before, holder._cache_duration = holder._cache_duration, 0
    try:
        info: RendezvousInfo = _quick_next_rendezvous(handler)
    finally:
        holder._cache_duration = before
    return info


_ETCD_TTL = 10.0
"""Seconds after which etcd forgets a node that does not renew its key; fixed in torch."""


def _patience(backend: str, parameters: RendezvousParameters) -> float:
    if backend == "etcd":
        return _ETCD_TTL
    interval = parameters.get_as_int("keep_alive_interval", 5) or 5
    return float(interval * (parameters.get_as_int("keep_alive_max_attempt", 3) or 3))


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


def create(config: Any) -> LocalRendezvous | FreshStoreRendezvous:
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
    if config.rdzv_backend in ("c10d", "static"):
        _check_endpoint(parameters)
    try:
        handler = (
            StaticRendezvous(parameters)
            if config.rdzv_backend == "static"
            else rdzv_registry.get_rendezvous_handler(parameters)
        )
    except (RendezvousConnectionError, RuntimeError) as error:
        why = error.__cause__ or error
        raise RendezvousConnectionError(f"no store at {config.rdzv_endpoint}: {why}") from error
    if isinstance(handler, LocalRendezvous):
        return handler
    return FreshStoreRendezvous(_quicken(handler), parameters, address or "127.0.0.1")


def _check_endpoint(parameters: RendezvousParameters) -> None:
    """Refuse an endpoint where something else answers: torch would wait there for ever."""
    host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=-1)
    if parameters.backend == "static" and port == -1:
        torch_api._get_addr_and_port(parameters)  # raises
    if port <= 0 or parameters.get_as_bool("is_host"):
        return
    try:
        check_is_store(host, port)
    except NotAStoreError as error:
        raise RendezvousConnectionError(f"no store at {parameters.endpoint}: {error}") from error
    except OSError:
        return  # nothing is there yet
