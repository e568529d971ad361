"""The hosts on which the jobs of a sweep can run: who joins and leaves, as the scheduler and the journal hear it."""

from __future__ import annotations

import logging
import time

from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.hosts.connection import HostConnection
from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.resources.host import Host
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.place import Place
from elastic_hydra.sweeps.scheduler import Scheduler

__all__ = ["Roster"]

log = logging.getLogger("elastic_hydra")

_CLOCKS_APART = 5.0
"""Seconds from which on a difference of the clocks is told."""


class Roster:
    """Lists the hosts that are there.

    Args:
        is_elastic: whether places are no machines, so that each host has a name of its own.
    """

    def __init__(self, *, is_elastic: bool) -> None:
        self._is_elastic = is_elastic
        self.hosts: dict[str, Host] = {}
        """By their names, in the order in which they came."""
        self.places: dict[str, Place] = {}
        """Where they are, by their names; those that have left are still there."""
        self.stores: list[events.StoreOpened] = []
        """Where jobs of several nodes meet, of those whose node 0 has said it; `HostPool.take_stores` takes them."""
        self._journal: Journal | None = None
        self._unwritten: list[events.Event] = []

    def slots(self) -> HostSlots:
        """Return the slots of the hosts that are there, all of them free."""
        made = HostSlots()
        for name, host in self.hosts.items():
            place = self.places[name]
            if not place.leaving and place.is_there:
                made.add(name, host.allocator.slots(), host.allocator.serves, host.ends)
        return made

    def name_of(self, place: Place, connection: HostConnection) -> str:
        """Return what a host is called: as its place, where that is a machine, or as it calls itself."""
        name = connection.name if self._is_elastic else place.name
        return name if name not in self.hosts else f"{name} ({place.name})"

    def join(self, place: Place, host: Host, scheduler: Scheduler | None) -> None:
        """Have jobs on a host that is fit."""
        place.was_fit, facts = True, host.facts
        self.hosts[host.name] = host
        self.places[host.name] = place
        if scheduler is not None:
            scheduler.hosts.add(host.name, host.allocator.slots(), host.allocator.serves, host.ends)
        gpus = f", {facts.gpus} GPU{'s' * (facts.gpus > 1)}" if facts.gpus else ""
        log.info("host %s: %d CPUs%s, %s", host.name, facts.cpus, gpus, bytes_in_words(facts.memory))
        if abs(apart := place.clocks.wall) > _CLOCKS_APART:
            log.warning("host %s: its clock is %+.0f s off; times in the journal are the launcher's", host.name, apart)
        ends = None if facts.time_left is None else round(time.time() + facts.time_left)
        joined = events.HostJoined(host=host.name, cpus=facts.cpus, gpus=facts.gpus, memory=facts.memory, ends=ends)
        self.write(joined)

    def drain(self, place: Place, scheduler: Scheduler | None) -> None:
        """Have nothing more started on a host."""
        place.is_drained = True
        if scheduler is not None and place.host is not None and place.host.name in scheduler.hosts:
            scheduler.hosts.drain(place.host.name)

    def note_end(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Note that nothing is left of a host, or that none has come."""
        orderly, why = bool(place.leaving) and not place.is_broken, place.leaving or connection.fate
        if place.host is not None:
            name = place.host.name
            if scheduler is not None and name in scheduler.hosts:
                scheduler.hosts.remove(name)
            del self.hosts[name]
            self.write(events.HostLeft(host=name, reason=why) if orderly else events.HostLost(host=name, reason=why))
            log.log(logging.INFO if orderly else logging.WARNING, "host %s is gone: %s", name, why)
        elif orderly and not place.left_alone:
            log.info("no host at %s: %s", place.name, why)
        elif not orderly and why != place.last_fate:  # what one try after the other finds is said once
            log.warning("no host at %s: %s", place.name, why)
        place.closed(now, orderly=orderly)

    def record(self, journal: Journal) -> None:
        """Write what becomes of the hosts into a journal from now on, and what has become of them so far."""
        self._journal = journal
        for event in self._unwritten:
            journal.write(event)
        self._unwritten.clear()

    def take_lines(self, place: Place, lines: bytes) -> None:
        """Write what agents and workers on a host have noted."""
        for event in place.clocks.events(lines):
            self.write(event)
            if isinstance(event, events.StoreOpened):
                self.stores.append(event)

    def write(self, event: events.Event) -> None:
        """Write an event into the journal, now or as soon as there is one."""
        if self._journal is None:
            self._unwritten.append(event)
        else:
            self._journal.write(event)
