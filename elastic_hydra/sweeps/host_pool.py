"""The hosts of a sweep that runs on other machines: they come, are examined, get jobs, are lost, and come again.

::

    Batch ── look ──▶ HostPool ── Place n1 ── HostConnection ══ host process on n1
                         │    └── Place n2 ── HostConnection ══ host process on n2
                         └─ tells the scheduler which hosts there are

A pool lives as long as its sweep, over all batches of jobs. Nothing here waits, but for `first`, `wait` and `close`.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.wanted import Heard
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.supervisor import waiting
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import AnyServer, Listener, ServerLost
from elastic_hydra.sweeps.alone import Alone
from elastic_hydra.sweeps.clocks import Clocks
from elastic_hydra.sweeps.examination import fit_host, outcome_of, start_examination
from elastic_hydra.sweeps.host_connections import HostConnections, write_on
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.pending_hosts import PendingHosts
from elastic_hydra.sweeps.place import IDLE, Place, wanted_hosts
from elastic_hydra.sweeps.roster import Roster
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.token_file import TokenFile

__all__ = ["HostPool"]

log = logging.getLogger("elastic_hydra")

_COMING_AT_ONCE = 8
"""So many hosts are asked for at once where each is a login: sshd refuses more (MaxStartups)."""
_MEANWHILE = 5.0
"""Seconds between two calls of what is done while there is no host yet."""


class HostPool:
    """Holds the hosts of a sweep, and a server on each of them.

    Args:
        engine: knows where hosts may be.
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
        self._token_file = token_file
        self._roster = Roster(is_elastic=engine.is_elastic)
        self.hosts = self._roster.hosts
        """Those on which jobs can run, by their names, in the order in which they came."""
        self.problem = ""
        """Why there is no host, and none is waited for any more; empty: all is well, or may become so."""
        self.listener: Listener | None = None
        """What is served while this process waits for hosts, or for jobs there."""
        self._places = [Place(name) for name in engine.places()[: keys.max]]
        self._learned: set[str] = set()
        self._told: list[tuple[str, int]] = []
        self._most_at_once = 0
        self._is_new = True
        """Whether something has happened that `look` has not seen yet."""
        self._pending = PendingHosts(engine)
        self._alone = Alone(self._places, keys, self._pending)
        self._connections = HostConnections(engine, keys, settings, shared, token_file)
        self._connections.before_close(self._pending.close)

    # --- servers of agents ----------------------------------------------------------------------------------------

    lost = False
    """A pool is never lost: hosts may come again."""

    def on(self, host: str) -> HostConnection:
        """Return the server on a host."""
        connection = self._roster.places[host].connection
        assert connection is not None
        return connection

    def clocks(self, host: str) -> Clocks:
        """Return the clocks of a host."""
        return self._roster.places[host].clocks

    def for_host(self, host: str, attempt: Attempt) -> Attempt:
        """Return an attempt as an agent on a host is to see it: with that host's clock and journal."""
        return replace(self.clocks(host).of_host(attempt), journal_path=Path(self.on(host).journal_path))

    def is_there(self, host: str) -> bool:
        """Whether processes can be started on a host that jobs have been given."""
        return host in self.hosts and not self.on(host).lost

    def names(self, host: str) -> list[str]:
        """Return by what a host may be known to others: what it calls itself, and what the launcher calls it."""
        return [self.on(host).name, host]

    def wait(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, until somebody asks for something, or until there is something to `look` at.

        Args:
            done: looked at after each event.
            timeout: seconds; None waits for ever.
        """
        now = time.monotonic()
        moments = [] if timeout is None else [now + timeout]
        moment = self._next_look(now)
        moments += [] if moment is None else [moment]
        left = max(0.0, min(moments) - now) if moments else None
        waiting.wait(self._connections.open, lambda: done() or self.is_asked() or self._has_news(), left, self.listener)

    def is_asked(self) -> bool:
        """Whether the listener has taken in a request."""
        return self.listener is not None and self.listener.has_requests

    def stop(self, held: Mapping[AnyServer, Sequence[Process]], number: int, shutdown_timeout: float) -> None:
        """End processes on several hosts at once, see `waiting.stop`."""
        waiting.stop(held, number, shutdown_timeout, self.listener)

    def learn(self, names: Iterable[str]) -> None:
        """Have all servers import modules that workers had to wait for."""
        new = set(names) - self._learned
        self._learned |= new
        if new:
            self._connections.preload(new)

    # --- hosts ----------------------------------------------------------------------------------------------------

    def first(self, jobs: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until there is a host on which jobs can run.

        Args:
            jobs: how many there are.
            meanwhile: called whenever something has happened, and every few seconds.

        Raises:
            ConfigError: there is none.
        """
        while not self.hosts:
            self.look(time.monotonic(), None, jobs)
            if self.problem:
                raise ConfigError(self.problem)
            if not self.hosts:
                self.wait(lambda: False, _MEANWHILE)
                meanwhile()

    def check_nodes(self, job: Job) -> None:
        """Refuse a job of several nodes that needs more hosts at once than can be there, now or later.

        Raises:
            ConfigError: it does.
        """
        most, nodes = sum(not place.left_alone for place in self._places), job.launch.demand.nodes
        if nodes > max(1, most):  # a job of one node waits, until all of the sweep is given up
            raise ConfigError(
                f"job #{job.num}: hydra.launcher.nodes={nodes}: at most {most} host{'s' * (most != 1)} can be there "
                "(hydra.launcher.hosts); set fewer nodes, or have more hosts"
            )

    def serve(self, journal: Journal, shutdown_timeout: float) -> None:
        """Serve a batch of jobs.

        Args:
            journal: of the sweep.
            shutdown_timeout: seconds between SIGTERM and SIGKILL for what runs on hosts when the launcher is gone.
        """
        self._roster.record(journal)
        self._connections.set_shutdown_timeout(shutdown_timeout)

    def record(self, journal: Journal) -> None:
        """Write what becomes of the hosts into a journal from now on, and what has become of them so far."""
        self._roster.record(journal)

    def slots(self) -> HostSlots:
        """Return the slots of the hosts that are there, all of them free."""
        return self._roster.slots()

    def look(self, now: float, scheduler: Scheduler | None, jobs: int = 0) -> None:
        """Note what has become of the hosts, tell the scheduler, and ask for more of them, or let some go.

        Args:
            now: the time, on the monotonic clock.
            scheduler: of the batch that runs; None: none does.
            jobs: how many jobs there are, where no scheduler says it.
        """
        self._is_new = False
        running: Counter[str] = Counter()
        if scheduler is not None:
            running.update(slot.host for run in scheduler.running.values() for slot in run.slots)
            jobs = scheduler.slots_wanted()
        self._most_at_once = max([self._most_at_once, *running.values()])
        for place in self._places:
            if place.connection is not None:
                self._look_at(place, place.connection, now, scheduler)
            if place.connection is not None and place.host is not None:
                self._let_go(place, place.connection, now, running[place.host.name], scheduler)
        is_stuck = scheduler is not None and scheduler.is_stuck(now)
        self._ask_for_more(now, jobs, 1 if scheduler is None else scheduler.most_nodes, is_stuck=is_stuck)
        if (event := self._pending.look(self._places, now)) is not None:
            self._roster.write(event)
        self.problem = self._alone.look(now, jobs, self.hosts, is_stuck=is_stuck) or self.problem

    def take_stores(self) -> list[events.StoreOpened]:
        """Return where jobs of several nodes meet, of those whose node 0 has said it since the last call."""
        stores, self._roster.stores = self._roster.stores, []
        return stores

    def take_told(self) -> list[tuple[str, int]]:
        """Return the hosts that were told to stop since the last call, each with the signal that has told it."""
        told, self._told = self._told, []
        return told

    def agent_ended(self, host: str, *, died: bool) -> None:
        """Note how an agent on a host has ended; a host on which one after the other dies is left alone.

        Args:
            host: its name.
            died: whether the agent died by itself.
        """
        place = self._roster.places.get(host)
        if place is None or place.connection is None or place.connection.lost:
            return
        if why := place.agent_ended(died=died):
            place.leaving = place.left_alone = why
            log.error("host %s: %s; it is left alone for the rest of the sweep", host, why)
            self._is_new = True

    def close(self) -> None:
        """Let all hosts go, in order and at once."""
        try:
            self._connections.close()  # what ends there may still have something to say of itself
        finally:
            self.hosts.clear()
            self._roster.places.clear()
            for place in self._places:
                place.connection = place.host = place.examination = place.transport = None

    # --- one place ------------------------------------------------------------------------------------------------

    def _look_at(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Note what has become of a host, and do what comes next."""
        if connection.state is State.doubtful and place.host is not None and not place.is_drained:
            what = "host %s: %s; its jobs may run there for up to %.0f s, and are not tried again before"
            log.warning(what, place.host.name, connection.fate, connection.certain_at - now)
        if connection.lost or place.leaving:
            self._roster.drain(place, scheduler)
        if connection.state is State.ended:
            self._connections.open.remove(connection)
            self._roster.note_end(place, connection, now, scheduler)
        elif place.leaving and place.host is None:
            place.close()
        elif connection.state is State.ready and place.host is None:
            self._examine(place, connection, now, scheduler)

    def _examine(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Find out whether jobs can run on a host."""
        if place.examination is None:
            if self._learned:
                connection.preload(self._learned)
            place.examination = start_examination(connection, self._token_file)
            place.examined_by = now + timeouts.EXAMINATION
            return
        if place.examination.exitcode is None and now >= place.examined_by:
            with suppress(ServerLost):
                connection.pump()  # this process may have been busy meanwhile
            if place.examination.exitcode is None:
                self._give_back(place, f"it cannot be examined: no answer within {timeouts.EXAMINATION:g} s")
                return
        if place.examination.exitcode is not None:
            self._judge(place, connection, place.examination, scheduler)

    def _give_back(self, place: Place, why: str) -> None:
        """Let a host go that may be better when it comes for the next time."""
        place.leaving, place.is_broken = why, True
        place.close()

    def _judge(
        self, place: Place, connection: HostConnection, examination: Process, scheduler: Scheduler | None
    ) -> None:
        """Have jobs on a host that was examined, or leave it alone."""
        name, examined = self._roster.name_of(place, connection), outcome_of(examination)
        connection.forget([examination])
        place.examination = None
        if isinstance(examined, str):
            self._give_back(place, examined)
            return
        try:
            place.host = fit_host(name, examined, connection, self._token_file, self._settings)
        except ConfigError as error:
            place.left_alone = place.leaving = str(error)
            log.error("host %s is left alone for the rest of the sweep: %s", name, error)
            self._roster.write(events.HostLeft(host=name, reason=str(error)))
            place.close()
            return
        self._roster.join(place, place.host, scheduler)

    # --- more of them, or fewer -----------------------------------------------------------------------------------

    def _let_go(
        self, place: Place, connection: HostConnection, now: float, running: int, scheduler: Scheduler | None
    ) -> None:
        """Close a host on which nothing is to run, as soon as nothing does."""
        if running or connection.lost:
            place.idle_since = None
            return
        place.idle_since = now if place.idle_since is None else place.idle_since
        is_needed = scheduler is None or scheduler.waiting or scheduler.planned
        if self._engine.is_elastic and not is_needed and now >= place.idle_since + IDLE:
            place.leaving = place.leaving or "it had nothing to do"
            self._roster.drain(place, scheduler)
        elif self._engine.is_elastic and scheduler is not None and place.host is not None and not place.leaving:
            place.useless_from = scheduler.useless_from(place.host.name)
            if now >= place.useless_from:
                place.leaving = "its time is over before a job that waits could end (hydra.launcher.resources.duration)"
                self._roster.drain(place, scheduler)
        if place.leaving:
            place.close()

    def _ask_for_more(self, now: float, slots: int, most_nodes: int, *, is_stuck: bool) -> None:
        usable = [place for place in self._places if not place.left_alone and not place.leaving]
        wanted = wanted_hosts(slots, self._jobs_per_host(), len(usable), most_nodes)
        counted = [place for place in usable if place.is_there and (self._engine.is_elastic or now < place.late_at)]
        there = len(counted)
        if is_stuck and all(place.host is not None for place in counted):
            wanted = max(wanted, there + 1)  # hosts may differ: one more may have room for what the others have not
        coming = 0 if self._engine.is_elastic else sum(place.is_coming for place in counted)
        for place in usable:
            if there >= wanted or coming >= _COMING_AT_ONCE:
                return
            if not place.is_open and place.not_before <= now:
                self._connections.ask(place, now, self._heard(place))
                there, coming = there + place.is_open, coming + (place.is_coming and not self._engine.is_elastic)

    def _jobs_per_host(self) -> int:
        parallel = self._settings.parallel
        return self._most_at_once if parallel == "auto" else int(parallel)

    def _heard(self, place: Place) -> Heard:
        return Heard(
            lines=lambda lines: self._roster.take_lines(place, lines),
            console=write_on,
            told=lambda number: self._take_told(place, number),
        )

    def _take_told(self, place: Place, number: int) -> None:
        if place.leaving:
            return
        place.leaving = f"it was told to stop by {signal.Signals(number).name}"
        if place.host is not None:
            self._told.append((place.host.name, number))

    # --- waiting --------------------------------------------------------------------------------------------------

    def _has_news(self) -> bool:
        """Whether `look` has something to do now."""
        return self._is_new or bool(self._told or self._roster.stores) or any(place.has_news for place in self._places)

    def _next_look(self, now: float) -> float | None:
        """Return when `look` has something to do, whatever happens; None: not before something does."""
        moments = [place.next_look(now, is_elastic=self._engine.is_elastic) for place in self._places]
        moments += [moment for moment in (self._pending.next_look(now),) if moment is not None and moment > now]
        if (moment := self._alone.gives_up_at) is not None:
            moments.append(moment)
        first = min(moments, default=math.inf)
        return None if first == math.inf else first
