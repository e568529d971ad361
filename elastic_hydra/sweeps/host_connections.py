"""The connections of a sweep to its hosts: opened, kept alive while the launcher does something else, and closed."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from omegaconf import DictConfig

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.connection import HostConnection, close_all
from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.keep_alive import KeepAlive
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.journal.host_record import HostRecord
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.sweeps.kept_server import PRELOAD
from elastic_hydra.sweeps.place import Place
from elastic_hydra.sweeps.token_file import TokenFile

__all__ = ["HostConnections", "write_on"]

log = logging.getLogger("elastic_hydra")


class HostConnections:
    """Opens connections, and holds those that have not ended.

    Args:
        engine: knows how each host is reached.
        keys: `hydra.launcher.hosts`.
        settings: the sweep's `hydra.launcher`.
        shared: objects that payloads will refer to, as for `KeptServer`.
        token_file: by which a host shows that it sees the sweep's directory.
    """

    def __init__(
        self,
        engine: Engine,
        keys: HostsConfig,
        settings: DictConfig,
        shared: Mapping[str, object],
        token_file: TokenFile,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._settings = settings
        self._shared = shared
        self._token_file = token_file
        self._wanted: Wanted | None = None
        self.open: list[HostConnection] = []
        """Those that have not ended."""
        self._held = ExitStack()
        """What is given back when the sweep is over."""
        self._held.callback(_close, self.open, token_file)
        self._end = weakref.finalize(self, _release, self._held, os.getpid())

    def before_close(self, function: Callable[[], None]) -> None:
        """Have a function called before the hosts are let go."""
        self._held.callback(function)

    def close(self) -> None:
        """Let all hosts go, in order and at once."""
        self._end()

    def set_shutdown_timeout(self, shutdown_timeout: float) -> None:
        """Say how long what runs on hosts has between SIGTERM and SIGKILL when the launcher is gone, in seconds."""
        if self._wanted is not None:
            self._wanted = replace(self._wanted, shutdown_timeout=shutdown_timeout)
        for connection in self._ready():
            connection.set_shutdown_timeout(shutdown_timeout)

    def preload(self, names: Iterable[str]) -> None:
        """Have all servers that are there import modules."""
        for connection in self._ready():
            connection.preload(names)

    def _ready(self) -> list[HostConnection]:
        return [connection for connection in self.open if connection.is_ready]

    def ask(self, place: Place, now: float, heard: Heard) -> None:
        """Ask for a host at a place.

        Args:
            place: without a host.
            now: the time.
            heard: takes what comes from there.

        Raises:
            ConfigError: what the app hands to its jobs cannot travel, or the sweep's directory cannot be written to.
        """
        place.asked_at = now
        if self._wanted is None:
            self._wanted = self._pickled()
            connections = self.open
            keep_alive = KeepAlive(lambda: [connection.link for connection in connections], self._keys.silence)
            self._held.callback(keep_alive.close)
        self._token_file.write()
        place.transport = self._engine.transport(place.name)
        try:
            place.connection = HostConnection(
                place.transport,
                self._wanted,
                heard,
                None if self._settings.dry_run else HostRecord(self._token_file.folder / FILE_NAME),
                None if self._engine.is_elastic else timeouts.LOGIN,
            )
        except OSError as error:
            place.failed(now, str(error), for_good=isinstance(error, (FileNotFoundError, PermissionError)))
            log.error("no host at %s: %s", place.name, error)
            return
        self.open.append(place.connection)

    def _pickled(self) -> Wanted:
        timeout = timeouts.end_of_agent(float(self._settings.shutdown_timeout))
        preload = (*PRELOAD, *self._settings.preload)
        try:
            return Wanted.of(self._shared, preload, timeout, self._keys.silence)
        except Exception as error:  # pickling runs code of the user's classes, which may raise anything
            raise ConfigError(
                f"hydra.launcher.hosts.engine={self._keys.engine}: what the app hands to its jobs cannot travel to "
                f"another host ({type(error).__name__}: {error}). Leave queues, locks and open files out of it"
            ) from error


def write_on(lines: Sequence[str]) -> None:
    """Write what agents and workers on a host have written; the sweep goes on when nobody reads it any more."""
    try:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    except OSError as error:
        log.debug("standard output takes nothing any more (%s); the logs of the jobs have it all", error)


def _close(connections: list[HostConnection], token_file: TokenFile) -> None:
    close_all(connections)
    connections.clear()
    token_file.remove()


def _release(held: ExitStack, owner: int) -> None:
    if os.getpid() == owner:  # a fork of the owner has copies of the connections, but not the hosts
        held.close()
