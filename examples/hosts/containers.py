"""Hosts that are containers of docker: `hydra.launcher.hosts.engine=hosts.containers`, and their names in `hosts.list`.

A container runs already, sees the directories of the app and of the sweep at the same paths, and has the same Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.listed import listed_hosts
from elastic_hydra.hosts.transport import CommandTransport, host_command


@dataclass(frozen=True)
class Containers:
    """Containers that run."""

    names: Sequence[str]
    """As docker knows them."""
    python: str = ""
    """The interpreter in the containers; empty: the path of this one."""
    is_elastic = False
    """A container that has nothing to do is kept until the sweep ends."""

    def places(self) -> Sequence[str]:
        """Return where hosts may be."""
        return self.names

    def transport(self, place: str) -> CommandTransport:
        """Return a way to the host at a place. `-i` gives it a standard input; a terminal (`-t`) would change bytes."""
        return CommandTransport(["docker", "exec", "-i", place, *host_command(self.python)], name=f"container {place}")


def engine(keys: HostsConfig) -> Containers:
    """Return how the hosts of `hydra.launcher.hosts` are reached."""
    return Containers(listed_hosts(keys.list), keys.python or "")
