"""The slots of all hosts of a sweep. Hosts may come and go while its jobs run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.resources.slots import Slot, Slots

__all__ = ["HostSlots"]


@dataclass(eq=False)
class _HostOfJobs:
    slots: Slots
    serves: Callable[[Demand], bool] | None
    """Whether the host could serve a job if it were idle; None: it can serve every job, as the composer has seen."""
    ends: float = math.inf
    """When the host will not be there any more."""
    is_drained: bool = False
    held: dict[int, Slot] = field(default_factory=dict)
    """By their ids: a slot of an earlier host of the same name may be equal to one of them."""

    def could_serve(self, demand: Demand) -> bool:
        """Whether a job could run there if no other did."""
        return not self.is_drained and (self.serves is None or self.serves(demand))

    def has_time_for(self, demand: Demand, now: float) -> bool:
        """Whether a job that starts now would end before the host does."""
        return not demand.duration or now + demand.duration <= self.ends

    def take(self, demand: Demand) -> Slot | NumaError | None:
        """Hold a slot for a job; or say why the host can never have one."""
        try:
            slot = self.slots.take(demand)
        except NumaError as error:
            return error
        if slot is not None:
            self.held[id(slot)] = slot
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take back what a job held here; nothing of what it held on an earlier host of the same name."""
        if self.held.pop(id(slot), None) is not None:
            self.slots.give_back(slot)


class HostSlots:
    """Hands out slots, and packs: of the hosts that have room for a job, the one that has least left gets it.

    So hosts with much room stay whole for jobs that need much, and hosts that nobody needs become idle. A job of
    several nodes gets a slot on as many hosts at once, or none.

    Args:
        slots: of the hosts that are there from the beginning, by their names; all of them free.
    """

    def __init__(self, slots: Mapping[str, Slots] | None = None) -> None:
        self._hosts: dict[str, _HostOfJobs] = {}
        self._servable: dict[Demand, bool] = {}
        """What `can_serve` has said since a host has come or gone."""
        self._serve_all = 0
        """How many hosts are there that can serve every job."""
        for name, of_host in (slots or {}).items():
            self.add(name, of_host)

    def add(
        self, name: str, slots: Slots, serves: Callable[[Demand], bool] | None = None, ends: float = math.inf
    ) -> None:
        """Have jobs on one more host.

        Args:
            name: the host's, unlike that of any other.
            slots: all of them free.
            serves: whether the host could serve a job if it were idle; None: it can serve every job.
            ends: when the host will not be there any more, on the clock of `now`.
        """
        if name in self._hosts:
            raise ValueError(f"host {name} is there already")
        self._hosts[name] = _HostOfJobs(slots, serves, ends)
        self._look_anew()

    def drain(self, name: str) -> None:
        """Start nothing more on a host; what runs there goes on."""
        self._hosts[name].is_drained = True
        self._look_anew()

    def remove(self, name: str) -> None:
        """Forget a host. What is given back to it later is nobody's, even if a host of that name is there again."""
        del self._hosts[name]
        self._look_anew()

    def __contains__(self, name: str) -> bool:
        """Whether a host of this name is there, drained or not."""
        return name in self._hosts

    def take(self, demand: Demand, now: float = 0.0) -> tuple[Slot, ...] | None:
        """Hold slots for a job, one for each of its nodes, on the fullest hosts that have room for them, and time.

        Args:
            demand: the job's.
            now: the time, which matters to jobs with a duration.

        Returns:
            the slots, each on another host; None while too few hosts have room: then none is held.

        Raises:
            NumaError: no host has such CPUs, or nodes with so many cores.
        """
        hosts = [host for host in self._hosts.values() if not host.is_drained and host.has_time_for(demand, now)]
        if len(hosts) > 1:
            hosts.sort(key=lambda host: host.slots.room)
        problems: list[NumaError] = []
        taken: list[Slot] = []
        for host in hosts:
            found = host.take(demand)
            if isinstance(found, Slot):
                taken.append(found)
                if len(taken) == demand.nodes:
                    return tuple(taken)
            problems += [found] if isinstance(found, NumaError) else []
        self.give_back(taken)
        if problems and len(problems) == len(hosts):
            raise problems[0]
        return None

    def can_serve(self, demand: Demand, now: float = 0.0) -> bool:
        """Whether hosts that are there could serve a job if they were idle from now on: one for each of its nodes.

        Args:
            demand: the job's.
            now: the time, which matters to jobs with a duration.
        """
        if demand.duration:
            return self._able(demand, now) >= demand.nodes
        if self._serve_all >= demand.nodes:
            return True
        if demand not in self._servable:
            self._servable[demand] = self._able(demand, now) >= demand.nodes
        return self._servable[demand]

    def _able(self, demand: Demand, now: float) -> int:
        """Count the hosts that could serve a node of a job if they were idle from now on."""
        return sum(host.could_serve(demand) and host.has_time_for(demand, now) for host in self._hosts.values())

    def useless_from(self, name: str, demands: Iterable[Demand]) -> float:
        """Return from when on a host's time is too short for each of some jobs; infinity: it never is.

        Args:
            name: the host's.
            demands: of the jobs.
        """
        shortest = min((demand.duration for demand in demands), default=0.0)
        return self._hosts[name].ends - shortest if shortest else math.inf

    def _look_anew(self) -> None:
        self._servable.clear()
        self._serve_all = sum(host.serves is None and not host.is_drained for host in self._hosts.values())

    def give_back(self, slots: Iterable[Slot]) -> None:
        """Take back what a job held."""
        for slot in slots:
            if (host := self._hosts.get(slot.host)) is not None:
                host.give_back(slot)

    def holds(self, slot: Slot) -> bool:
        """Whether a slot is held on a host that is there, and not on one that has left, perhaps of the same name."""
        host = self._hosts.get(slot.host)
        return host is not None and id(slot) in host.held
