"""The warm server of a sweep: it lives as long as the sweep, over all batches of jobs."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

from elastic_hydra.supervisor.client import Client, ServerLost
from elastic_hydra.supervisor.open_server import open_server

__all__ = ["PRELOAD", "KeptServer"]

PRELOAD = ("torch.distributed.launcher.api", "elastic_hydra.launcher.api", "elastic_hydra.jobs.agent_process")
"""What a warm server in a fresh interpreter imports for the agents and workers of a sweep."""


class KeptServer:
    """Opens a server when jobs first need one, and keeps it: adaptive sweepers launch batches of one job.

    It ends with this object, at the latest when the process ends; one that is lost is replaced, and the new one imports
    at once what the lost one had learned to import.

    Args:
        shared: objects that payloads will refer to, as for `open_server`.
        preload: modules that a server in a fresh interpreter imports for its workers; a fork of this process has them.
    """

    def __init__(self, shared: Mapping[str, object], preload: Sequence[str] = ()) -> None:
        self._shared = shared
        self._preload = (*PRELOAD, *preload)
        self._learned: set[str] = set()
        self._server: Client | None = None
        self._start_method = ""
        self._end: weakref.finalize[..., KeptServer] | None = None

    @contextlib.contextmanager
    def used(self, start_method: str, shutdown_timeout: float, keep: Sequence[int]) -> Iterator[Client]:
        """Have the server for a batch of jobs: what it leaves behind, should it die meanwhile, comes to this process.

        It is kept afterwards, unless it was lost or an exception ends the batch. The arguments are those of
        `open_server`.

        Raises:
            ServerLost: it could not be started.
        """
        server = self._ready(start_method, shutdown_timeout, keep)
        with server.adopting_orphans():
            try:
                yield server
            except BaseException:
                self.close()
                raise
            if server.lost:
                self.close()

    def learn(self, names: Iterable[str]) -> None:
        """Have the server import modules that workers had to wait for, so that those of later jobs need not."""
        new = set(names) - self._learned
        self._learned |= new
        if new and self._server is not None:
            with contextlib.suppress(ServerLost):  # the next server imports the modules when it is opened
                self._server.preload(new)

    def close(self) -> None:
        """End the server, if there is one."""
        self._server = None
        if self._end is not None:
            self._end()

    def _ready(self, start_method: str, shutdown_timeout: float, keep: Sequence[int]) -> Client:
        if self._server is not None:
            with contextlib.suppress(ServerLost), self._server.adopting_orphans():
                self._server.pump()  # notices when the server has died since the last batch
                if self._start_method == start_method:
                    self._server.set_shutdown_timeout(shutdown_timeout)
                    return self._server
            self.close()
        self._server = server = open_server(
            start_method, self._shared, shutdown_timeout, preload=self._preload, keep=keep
        )
        self._start_method = start_method
        self._end = weakref.finalize(self, _close, server, os.getpid())
        if self._learned:
            server.preload(self._learned)
        return server


def _close(server: Client, owner: int) -> None:
    if os.getpid() == owner:  # a fork of the owner has a copy of this, but not the server
        server.close()
