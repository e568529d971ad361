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
import os
import signal
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.hosts.connection import HostConnection, State, close_all
from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.keep_alive import KeepAlive
from elastic_hydra.hosts.time_left import time_left
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.journal import events
from elastic_hydra.journal.host_record import HostRecord
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.journal.writer import Journal
from elastic_hydra.resources.examine import Examined, examine, unfit
from elastic_hydra.resources.host import Host
from elastic_hydra.supervisor import waiting
from elastic_hydra.supervisor.forked import ProcessSpec, current_umask
from elastic_hydra.supervisor.packed_error import unpack
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import AnyServer, Listener, ServerLost
from elastic_hydra.sweeps.clocks import Clocks
from elastic_hydra.sweeps.host_slots import HostSlots
from elastic_hydra.sweeps.kept_server import PRELOAD
from elastic_hydra.sweeps.meeting_points import MeetingPoints
from elastic_hydra.sweeps.pending_hosts import PendingHosts
from elastic_hydra.sweeps.place import Place, wanted_hosts
from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.token_file import TokenFile

__all__ = ["HostPool", "write_on"]

log = logging.getLogger("elastic_hydra")

_COMING_AT_ONCE = 8
"""So many hosts are asked for at once where each is a login: sshd refuses more (MaxStartups)."""
_IDLE = 30.0
"""Seconds after which a host without a job is let go, if others could be had again."""
_MEANWHILE = 5.0
"""Seconds between two calls of what is done while there is no host yet."""
_SHOWN_LINES = 5
"""Of the last lines of a way to a host in messages."""
_CLOCKS_APART = 5.0
"""Seconds from which on a difference of the clocks is told."""


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
        self._shared = shared
        self._token_file = token_file
        self.hosts: dict[str, Host] = {}
        """Those on which jobs can run, by their names, in the order in which they came."""
        self.problem = ""
        """Why there is no host, and none is waited for any more; empty: all is well, or may become so."""
        self.listener: Listener | None = None
        """What is served while this process waits for hosts, or for jobs there."""
        self._places = [Place(name) for name in engine.places()[: keys.max]]
        self._by_host: dict[str, Place] = {}
        self._journal: Journal | None = None
        self._unwritten: list[events.Event] = []
        self._wanted: Wanted | None = None
        self._stores = MeetingPoints()
        self._learned: set[str] = set()
        self._told: list[tuple[str, int]] = []
        self._alone_since: float | None = None
        self._most_at_once = 0
        self._is_new = True
        """Whether something has happened that `look` has not seen yet."""
        self._pending = PendingHosts(engine)
        self._open: list[HostConnection] = []
        self._held = ExitStack()
        """What is given back when the sweep is over."""
        self._held.callback(_close, self._open, token_file)
        self._held.callback(self._pending.close)
        self._end = weakref.finalize(self, _release, self._held, os.getpid())

    # --- servers of agents ----------------------------------------------------------------------------------------

    lost = False
    """A pool is never lost: hosts may come again."""

    def on(self, host: str) -> HostConnection:
        """Return the server on a host."""
        connection = self._by_host[host].connection
        assert connection is not None
        return connection

    def clocks(self, host: str) -> Clocks:
        """Return the clocks of a host."""
        return self._by_host[host].clocks

    def for_host(self, host: str, attempt: Attempt) -> Attempt:
        """Return an attempt as an agent on a host is to see it: with that host's clock and journal."""
        return replace(self.clocks(host).of_host(attempt), journal_path=Path(self.on(host).journal_path))

    def meeting_point(self, hosts: Sequence[str]) -> str:
        """Return the endpoint of the store where the nodes of jobs on several hosts meet.

        Args:
            hosts: of the job.

        Raises:
            ConfigError: this process can host no store.
        """
        return self._stores.endpoint({host: self.on(host).name for host in hosts})

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
        waiting.wait(self._open, lambda: done() or self.is_asked() or self._has_news(), left, self.listener)

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
        for connection in self._open if new else ():
            if connection.state is State.ready:
                connection.preload(new)

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
        self.record(journal)
        if self._wanted is not None:
            self._wanted = replace(self._wanted, shutdown_timeout=shutdown_timeout)
        for connection in self._open:
            if connection.state is State.ready:
                connection.set_shutdown_timeout(shutdown_timeout)

    def record(self, journal: Journal) -> None:
        """Write what becomes of the hosts into a journal from now on, and what has become of them so far."""
        self._journal = journal
        for event in self._unwritten:
            journal.write(event)
        self._unwritten.clear()

    def slots(self) -> HostSlots:
        """Return the slots of the hosts that are there, all of them free."""
        made = HostSlots()
        for name, host in self.hosts.items():
            place = self._by_host[name]
            if not place.leaving and not self.on(name).lost:
                made.add(name, host.allocator.slots(), host.allocator.serves, host.ends)
        return made

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
            self._write(event)
        self._look_whether_alone(now, jobs, is_stuck=is_stuck)

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
        place = self._by_host.get(host)
        if place is None or place.connection is None or place.connection.lost:
            return
        if why := place.agent_ended(died=died):
            place.leaving = place.left_alone = why
            log.error("host %s: %s; it is left alone for the rest of the sweep", host, why)
            self._is_new = True

    def close(self) -> None:
        """Let all hosts go, in order and at once."""
        self._stores.close()
        self.hosts.clear()
        self._by_host.clear()
        for place in self._places:
            place.connection = place.host = place.examination = place.transport = None
        self._end()

    # --- one place ------------------------------------------------------------------------------------------------

    def _look_at(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Note what has become of a host, and do what comes next."""
        if connection.state is State.doubtful and place.host is not None and not place.is_drained:
            what = "host %s: %s; its jobs may run there for up to %.0f s, and are not tried again before"
            log.warning(what, place.host.name, connection.fate, connection.certain_at - now)
        if connection.lost or place.leaving:
            self._drain(place, scheduler)
        if connection.state is State.ended:
            self._note_end(place, connection, now, scheduler)
        elif place.leaving and place.host is None:
            place.close()
        elif connection.state is State.ready and place.host is None:
            self._examine(place, connection, now, scheduler)

    def _examine(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Find out whether jobs can run on a host."""
        if place.examination is None:
            place.examination = self._start_examination(connection)
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

    def _start_examination(self, connection: HostConnection) -> Process:
        if self._learned:
            connection.preload(self._learned)
        spec = ProcessSpec(None, dict(connection.environment), os.getcwd(), current_umask())
        return connection.start(spec, (examine, (str(self._token_file.path), time_left)))

    def _judge(
        self, place: Place, connection: HostConnection, examination: Process, scheduler: Scheduler | None
    ) -> None:
        """Have jobs on a host that was examined, or leave it alone."""
        name, examined = self._name_of(place, connection), _outcome_of(examination)
        connection.forget([examination])
        place.examination = None
        if isinstance(examined, str):
            self._give_back(place, examined)
            return
        why = unfit(examined, self._token_file.token, self._token_file.folder, self._token_file.key)
        if not why:
            try:
                place.host = Host.elsewhere(name, self._settings, examined, connection.environment)
            except ConfigError as error:
                why = str(error)
        if place.host is None:
            place.left_alone = place.leaving = why
            log.error("host %s is left alone for the rest of the sweep: %s", name, why)
            self._write(events.HostLeft(host=name, reason=why))
            place.close()
            return
        self._join(place, place.host, scheduler)

    def _join(self, place: Place, host: Host, scheduler: Scheduler | None) -> None:
        place.was_fit, facts = True, host.facts
        self.hosts[host.name] = host
        self._by_host[host.name] = place
        if scheduler is not None:
            scheduler.hosts.add(host.name, host.allocator.slots(), host.allocator.serves, host.ends)
        gpus = f", {facts.gpus} GPU{'s' * (facts.gpus > 1)}" if facts.gpus else ""
        log.info("host %s: %d CPUs%s, %s", host.name, facts.cpus, gpus, bytes_in_words(facts.memory))
        if abs(apart := place.clocks.wall) > _CLOCKS_APART:
            log.warning("host %s: its clock is %+.0f s off; times in the journal are the launcher's", host.name, apart)
        ends = None if facts.time_left is None else round(time.time() + facts.time_left)
        joined = events.HostJoined(host=host.name, cpus=facts.cpus, gpus=facts.gpus, memory=facts.memory, ends=ends)
        self._write(joined)

    def _name_of(self, place: Place, connection: HostConnection) -> str:
        """Return what a host is called: as its place, where that is a machine, or as it calls itself."""
        name = connection.name if self._engine.is_elastic else place.name
        return name if name not in self.hosts else f"{name} ({place.name})"

    def _drain(self, place: Place, scheduler: Scheduler | None) -> None:
        """Have nothing more started on a host."""
        place.is_drained = True
        if scheduler is not None and place.host is not None and place.host.name in scheduler.hosts:
            scheduler.hosts.drain(place.host.name)

    def _note_end(self, place: Place, connection: HostConnection, now: float, scheduler: Scheduler | None) -> None:
        """Note that nothing is left of a host, or that none has come."""
        orderly, why = bool(place.leaving) and not place.is_broken, place.leaving or connection.fate
        if place.host is not None:
            name = place.host.name
            if scheduler is not None and name in scheduler.hosts:
                scheduler.hosts.remove(name)
            del self.hosts[name]
            self._write(events.HostLeft(host=name, reason=why) if orderly else events.HostLost(host=name, reason=why))
            log.log(logging.INFO if orderly else logging.WARNING, "host %s is gone: %s", name, why)
        elif orderly and not place.left_alone:
            log.info("no host at %s: %s", place.name, why)
        elif not orderly and why != place.last_fate:  # what one try after the other finds is said once
            log.warning("no host at %s: %s", place.name, why)
        self._open.remove(connection)
        place.closed(now, orderly=orderly)

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
        if self._engine.is_elastic and not is_needed and now >= place.idle_since + _IDLE:
            place.leaving = place.leaving or "it had nothing to do"
            self._drain(place, scheduler)
        elif self._engine.is_elastic and scheduler is not None and place.host is not None and not place.leaving:
            place.useless_from = scheduler.useless_from(place.host.name)
            if now >= place.useless_from:
                place.leaving = "its time is over before a job that waits could end (hydra.launcher.resources.duration)"
                self._drain(place, scheduler)
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
                self._ask(place, now)
                there, coming = there + place.is_open, coming + (place.is_coming and not self._engine.is_elastic)

    def _jobs_per_host(self) -> int:
        parallel = self._settings.parallel
        return self._most_at_once if parallel == "auto" else int(parallel)

    def _ask(self, place: Place, now: float) -> None:
        """Ask for a host at a place."""
        place.asked_at = now
        if self._wanted is None:
            timeout = timeouts.end_of_agent(float(self._settings.shutdown_timeout))
            preload = (*PRELOAD, *self._settings.preload)
            try:
                self._wanted = Wanted.of(self._shared, preload, timeout, self._keys.silence)
            except Exception as error:  # pickling runs code of the user's classes, which may raise anything
                raise ConfigError(
                    f"hydra.launcher.hosts.engine={self._keys.engine}: what the app hands to its jobs cannot travel to "
                    f"another host ({type(error).__name__}: {error}). Leave queues, locks and open files out of it"
                ) from error
            connections = self._open
            keep_alive = KeepAlive(lambda: [connection.link for connection in connections], self._keys.silence)
            self._held.callback(keep_alive.close)
        self._token_file.write()
        place.transport = self._engine.transport(place.name)
        try:
            place.connection = HostConnection(
                place.transport,
                self._wanted,
                Heard(
                    lines=lambda lines: self._take_lines(place, lines),
                    console=write_on,
                    told=lambda number: self._take_told(place, number),
                ),
                None if self._settings.dry_run else HostRecord(self._token_file.folder / FILE_NAME),
                None if self._engine.is_elastic else timeouts.LOGIN,
            )
        except OSError as error:
            place.failed(now, str(error), for_good=isinstance(error, (FileNotFoundError, PermissionError)))
            log.error("no host at %s: %s", place.name, error)
            return
        self._open.append(place.connection)

    def _take_lines(self, place: Place, lines: bytes) -> None:
        for event in place.clocks.events(lines):
            self._write(event)

    def _take_told(self, place: Place, number: int) -> None:
        if place.leaving:
            return
        place.leaving = f"it was told to stop by {signal.Signals(number).name}"
        if place.host is not None:
            self._told.append((place.host.name, number))

    def _write(self, event: events.Event) -> None:
        if self._journal is None:
            self._unwritten.append(event)
        else:
            self._journal.write(event)

    # --- waiting --------------------------------------------------------------------------------------------------

    def _has_news(self) -> bool:
        """Whether `look` has something to do now."""
        return self._is_new or bool(self._told) or any(_is_news(place) for place in self._places)

    def _next_look(self, now: float) -> float | None:
        """Return when `look` has something to do, whatever happens; None: not before something does."""
        pauses = [place.not_before for place in self._places if not place.is_open and not place.left_alone]
        moments = [moment for moment in (*pauses, self._pending.next_look(now)) if moment is not None and moment > now]
        moments += [place.examined_by for place in self._places if place.examination and not place.leaving]
        if not self._engine.is_elastic:
            moments += [place.late_at for place in self._places if now < place.late_at < math.inf]
        else:
            idle = [place.idle_since + _IDLE for place in self._places if place.idle_since is not None]
            moments += [moment for moment in idle if moment > now]
            useless = [place.useless_from for place in self._places if place.idle_since is not None]
            moments += [moment for moment in useless if now < moment < math.inf]
        if self._alone_since is not None and self._keys.start_timeout is not None:
            moments.append(self._alone_since + self._keys.start_timeout)
        return min(moments, default=None)

    def _look_whether_alone(self, now: float, jobs: int, *, is_stuck: bool) -> None:
        """Give up when there is no host, or too few for each job, and none is to be waited for any more."""
        if (self.hosts and not is_stuck) or not jobs:
            self._alone_since = None
            return
        self._alone_since = now if self._alone_since is None else self._alone_since
        limit = self._keys.start_timeout
        there = f"the jobs that wait need more than {', '.join(self.hosts)}" if self.hosts else "no host is there"
        if all(place.is_settled for place in self._places):
            self.problem = f"hydra.launcher.hosts.engine={self._keys.engine}: {there}{self._fates()}"
        elif limit is not None and now >= self._alone_since + limit:
            late = f"{there}, and no other host" if self.hosts else "no host"
            self.problem = f"hydra.launcher.hosts.start_timeout={limit:g}: {late} has come in time{self._fates()}"

    def _fates(self) -> str:
        """Say why there is no other host, by place; of those that have not come, what was heard."""
        told = {place.name: place.left_alone or place.last_fate for place in self._places}
        for place in self._places:
            if place.connection is not None and place.transport is not None and place.host is None:
                missing = place.missing
                place.close()
                ended = place.transport.ended()
                said = " | ".join(ended.last_lines[-_SHOWN_LINES:]) if ended is not None else ""
                missing += self._pending.reason_of(place.name)
                told[place.name] = missing + (f", and said: {said}" if said else "")
        return "".join(f"\n  {name}: {why}" for name, why in told.items() if why)


def _is_news(place: Place) -> bool:
    connection = place.connection
    if connection is None:
        return False
    if connection.state is State.ended:
        return True
    if connection.lost or place.leaving:
        return not place.is_drained
    if place.host is not None or connection.state is not State.ready:
        return False
    return place.examination is None or place.examination.exitcode is not None


def _outcome_of(examination: Process) -> Examined | str:
    """Return what an examination has found, or why it has found nothing."""
    outcome = examination.outcome()
    if outcome is not None and outcome.error is not None:
        error = unpack(outcome.error)
        if isinstance(error, FileNotFoundError) and error.filename:
            return (
                f"it does not see {error.filename}: the app must be in a folder that all hosts share with the launcher"
            )
        return f"it cannot be examined: {type(error).__name__}: {error}"
    if outcome is None or examination.exitcode != 0:
        why = examination.refused or examination.fate or f"exit code {examination.exitcode}"
        return f"it cannot be examined: {why}"
    found: Examined = outcome.value
    return found


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
