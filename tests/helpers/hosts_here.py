"""A way to reach hosts, as a user would write it: each host is a host process on this machine.

`hydra.launcher.hosts.engine=tests.helpers.hosts_here`. The process ids are in files of the folder HOSTS_HERE, so that
tests can kill hosts. With HOSTS_HERE_RELAY, these are the ids of relays, which know nothing of the ends of hosts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.transport import CommandTransport, Ended, host_command
from tests.helpers.relay import relayed

NAMES = ("n1", "n2", "n3", "n4")


class HostHere(CommandTransport):
    """A host process that is a child of this process."""

    def ended(self) -> Ended | None:
        """Return how it has ended, which is known for certain here."""
        ended = super().ended()
        return None if ended is None else replace(ended, host_is_gone=True)


@dataclass
class HostsHere:
    """Some host processes."""

    count: int
    is_elastic: bool = False

    def places(self) -> Sequence[str]:
        """Return the names of the hosts."""
        return NAMES[: self.count]

    def transport(self, place: str) -> CommandTransport:
        """Return a command that notes its process id, and runs a host process, maybe inside of something."""
        folder = os.environ["HOSTS_HERE"]
        before = os.environ.get(f"HOSTS_HERE_BEFORE_{place}", "")
        inside = os.environ.get(f"HOSTS_HERE_INSIDE_{place}", "")
        is_relayed = bool(os.environ.get("HOSTS_HERE_RELAY"))
        command = relayed(host_command()) if is_relayed else host_command()
        script = f"echo $$ > {shlex.quote(f'{folder}/{place}.pid')}; {before}\nexec {inside} {shlex.join(command)}"
        return (CommandTransport if is_relayed else HostHere)(["sh", "-c", script], name=place)


def engine(keys: HostsConfig) -> HostsHere:
    """Return two hosts, or as many as `hosts.max` says."""
    return HostsHere(keys.max or 2, is_elastic=bool(os.environ.get("HOSTS_HERE_ELASTIC")))


def pid_of(folder: Path, place: str) -> int:
    """Return the process id of a host process."""
    return int((folder / f"{place}.pid").read_text())
