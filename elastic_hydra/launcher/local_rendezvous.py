"""The rendezvous of a job on one node."""

from __future__ import annotations

import socket

from torch.distributed import HashStore, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

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


def _loopback_store() -> TCPStore:
    """Make a store that only this machine can reach, at a port that is taken from the start."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # The store owns the socket from here on.
    return TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach(), use_libuv=True
    )
