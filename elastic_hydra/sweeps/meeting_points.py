"""Where the agents of a gang meet: at a store of the launcher's, which is opened with the first such job."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.elastic.rendezvous.store_process import OwnStore, own_address

__all__ = ["MeetingPoints"]


class MeetingPoints:
    """The stores of one launcher: one for each of its addresses by which hosts come, as few as that are."""

    def __init__(self) -> None:
        self._stores: dict[str, OwnStore] = {}
        self._ways: dict[str, str] = {}
        """The launcher's address on the way to each host; this machine's name where there is no way by a name."""

    def endpoint(self, hosts: Mapping[str, str]) -> str:
        """Return the endpoint of a store that hosts reach.

        Args:
            hosts: what each calls itself, by what the launcher calls it. One of the names may mean nothing here.

        Raises:
            ConfigError: the launcher can host no store.
        """
        ways = [self._way(name) for both in hosts.items() for name in both]
        address = min(ways, key=_rank)
        if address not in self._stores:
            try:
                self._stores[address] = OwnStore(address)
            except OSError as error:
                raise ConfigError(
                    f"the launcher cannot host the store where the nodes of a job meet, at {address}: {error}. Run one "
                    "that all hosts reach, and set hydra.launcher.rendezvous.endpoint=HOST:PORT"
                ) from error
        return self._stores[address].endpoint

    def _way(self, name: str) -> str:
        if name not in self._ways:  # a name server that does not answer is waited for once
            self._ways[name] = own_address(name)
        return self._ways[name]

    def close(self) -> None:
        """Close all stores."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()


def _rank(address: str) -> int:
    """Say how good an address is, less is better: of a network, of this machine for itself, or only a name."""
    if address == socket.gethostname():
        return 2
    return int(ipaddress.ip_address(address.partition("%")[0]).is_loopback)
