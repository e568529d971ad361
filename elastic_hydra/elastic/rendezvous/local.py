"""The rendezvous of a job on one node."""

from __future__ import annotations

from torch.distributed import HashStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from elastic_hydra.elastic.rendezvous.listener import store_at

__all__ = ["LocalRendezvous"]


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
        self._trainer_store = store_at("127.0.0.1")
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
