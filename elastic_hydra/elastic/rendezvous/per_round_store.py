"""torch's rendezvous and what it lacks: a fresh store for each start of a worker group, errors in words, no pauses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

from torch.distributed import TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

from elastic_hydra.compat import torch_rendezvous
from elastic_hydra.config.backends import Backend, backend_of
from elastic_hydra.elastic.rendezvous.listener import store_at
from elastic_hydra.elastic.rendezvous.static import CLOSED
from elastic_hydra.supervisor.process_state import environment

__all__ = ["FreshStoreRendezvous"]

_NO_SHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_TRAINER_STORE = "elastic_hydra/trainer_store"


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
        self._parameters = parameters
        self._address = address
        self._timeout = float(parameters.get_as_int("read_timeout", 60) or 60)
        self._trainer_store: TCPStore | None = None
        self._waiting = (0, 0.0)
        backend = backend_of(inner.get_backend())
        self._inner = torch_rendezvous.quicken(inner) if backend.in_memory else inner
        self.elastic = parameters.min_nodes < parameters.max_nodes
        """Whether the group goes on with fewer nodes."""
        self.can_grow = parameters.max_nodes > 1
        """Whether other nodes have to be watched."""
        self.can_replace = not backend.has_node_ranks
        """Whether another node can take the place of a lost one."""
        self.patience = _patience(backend, parameters)
        """Seconds without a sign of life after which a node counts as lost."""
        self.interval = backend.interval
        """Seconds between two looks at the others."""

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
            info = torch_rendezvous.next_rendezvous(self._inner)
            if info.rank == 0:
                self._trainer_store = store_at(self._address)
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
            raise RendezvousClosedError(str(error) or CLOSED.format(run_id)) from error
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
                torch_rendezvous.leave(self._inner)


def _patience(backend: Backend, parameters: RendezvousParameters) -> float:
    if backend.forgets_after is not None:
        return backend.forgets_after
    interval = parameters.get_as_int("keep_alive_interval", 5) or 5
    return float(interval * (parameters.get_as_int("keep_alive_max_attempt", 3) or 3))
