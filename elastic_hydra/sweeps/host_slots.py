"""The slots of all hosts of a sweep. Hosts may come and go while its jobs run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.resources.slots import Slot, Slots

__all__ = ["HostSlots"]


@dataclass(eq=False)
class _HostOfJobs:
    slots: Slots
    serves: Callable[[Demand], bool] | None
    """Whether the host could serve a job if it were idle; None: it can serve every job, as the composer has seen."""
    is_drained: bool = False

    def take(self, demand: Demand) -> Slot | NumaError | None:
        """Hold a slot for a job; or say why the host can never have one."""
        try:
            return self.slots.take(demand)
        except NumaError as error:
            return error


class HostSlots:
    """Hands out slots, and packs: of the hosts that have room for a job, the one that has least left gets it.

    So hosts with much room stay whole for jobs that need much, and hosts that nobody needs become idle.

    Args:
        slots: of the hosts that are there from the beginning, by their names; all of them free.
    """

    def __init__(self, slots: Mapping[str, Slots] | None = None) -> None:
        self._hosts: dict[str, _HostOfJobs] = {}
        self._servable: dict[Demand, bool] = {}
        """What `can_serve` has said since a host has come or gone."""
        self._serves_all = False
        """Whether a host is there that can serve every job."""
        for name, of_host in (slots or {}).items():
            self.add(name, of_host)

    def add(self, name: str, slots: Slots, serves: Callable[[Demand], bool] | None = None) -> None:
        """Have jobs on one more host.

        Args:
            name: the host's, unlike that of any other.
            slots: all of them free.
            serves: whether the host could serve a job if it were idle; None: it can serve every job.
        """
        if name in self._hosts:
            raise ValueError(f"host {name} is there already")
        self._hosts[name] = _HostOfJobs(slots, serves)
        self._look_anew()

    def drain(self, name: str) -> None:
        """Start nothing more on a host; what runs there goes on."""
        self._hosts[name].is_drained = True
        self._look_anew()

    def remove(self, name: str) -> None:
        """Forget a host. What is given back to it later is nobody's."""
        del self._hosts[name]
        self._look_anew()

    def __contains__(self, name: str) -> bool:
        """Whether a host of this name is there, drained or not."""
        return name in self._hosts

    def take(self, demand: Demand) -> Slot | None:
        """Hold a slot for a job on the fullest host that has room for it; None while none has.

        Raises:
            NumaError: no host has such CPUs, or nodes with so many cores.
        """
        hosts = [host for host in self._hosts.values() if not host.is_drained]
        if len(hosts) > 1:
            hosts.sort(key=lambda host: host.slots.room)
        problems: list[NumaError] = []
        for host in hosts:
            found = host.take(demand)
            if isinstance(found, Slot):
                return found
            problems += [] if found is None else [found]
        if problems and len(problems) == len(hosts):
            raise problems[0]
        return None

    def can_serve(self, demand: Demand) -> bool:
        """Whether a host that is there, and is not drained, could serve a job if it were idle."""
        if self._serves_all:
            return True
        if demand not in self._servable:
            hosts = [host for host in self._hosts.values() if not host.is_drained]
            self._servable[demand] = any(host.serves is None or host.serves(demand) for host in hosts)
        return self._servable[demand]

    def _look_anew(self) -> None:
        self._servable.clear()
        self._serves_all = any(host.serves is None and not host.is_drained for host in self._hosts.values())

    def give_back(self, slot: Slot) -> None:
        """Take back what a job held."""
        if (host := self._hosts.get(slot.host)) is not None:
            host.slots.give_back(slot)
