"""The jobs of one call of the launcher, on their way from their overrides to what they have returned."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, filter_overrides

from elastic_hydra import timeouts
from elastic_hydra.config.debug import POST_MORTEM, in_words
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.resolve import Launch
from elastic_hydra.config.resources import demand_in_words
from elastic_hydra.config.schema import INLINE
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic.agent import IN_THE_LOG_ONLY
from elastic_hydra.failures.cause import one_line
from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.journal import events
from elastic_hydra.journal.writer import Journal
from elastic_hydra.live.view import View
from elastic_hydra.overview.log_files import next_restart
from elastic_hydra.overview.words import shown_path
from elastic_hydra.resources.slots import Slot
from elastic_hydra.supervisor import signal_queue, standard_input
from elastic_hydra.supervisor.client import Client, ServerLost
from elastic_hydra.sweeps import gang, returns
from elastic_hydra.sweeps.agents import Agents, OwnServer
from elastic_hydra.sweeps.compose import meet, task_yaml
from elastic_hydra.sweeps.ends import Ends
from elastic_hydra.sweeps.hands import Hands
from elastic_hydra.sweeps.host_pool import HostPool
from elastic_hydra.sweeps.inline import InlineAgents
from elastic_hydra.sweeps.scheduler import Running
from elastic_hydra.sweeps.state import SweepState
from elastic_hydra.sweeps.steps import Blocked, ComposeJob, Done, KillAgent, LeaveOut, StartJob, Step, StopAgent, Wait
from elastic_hydra.sweeps.stop import Order, order_of

__all__ = ["Batch"]

log = logging.getLogger("elastic_hydra")

_TELLS_NOBODY = (Kind.agent, Kind.exception, Kind.rendezvous)
"""How an agent ends that has not told those of the other nodes: they would wait for it, and for its signs of life."""
_SERVERS_IN_VAIN = 3
"""After so many servers that have died before they started a job, what waits is not started."""


class Batch:
    """Does what the scheduler says: composes jobs, starts agents, awaits their ends, and writes the journal.

    Args:
        state: what lives as long as the sweep.
        journal: of the sweep.
        planned: numbers and overrides of the jobs, in their order.
        view: of the sweep.
    """

    def __init__(self, state: SweepState, journal: Journal, planned: list[tuple[int, list[str]]], view: View) -> None:
        self._state = state
        self._journal = journal
        self._view = view
        self._admitted: list[tuple[int, list[str]]] = []
        self._launches: list[Launch] = []
        """Of the jobs that are composed."""
        self._ends = Ends(journal, state.results, state.failures)
        self._scheduler = state.scheduler(planned)
        self._hands = Hands(state.control, journal, self._scheduler, state.mailbox)
        self.refused: ConfigError | None = None
        """Why a job that was composed while others ran cannot be launched."""

    def returns(self) -> list[JobReturn]:
        """Return what the jobs have returned, in their order."""
        return [self._ends.returns[num] for num, _ in self._admitted]

    def jobs(self) -> list[tuple[int, list[str]]]:
        """Return numbers and overrides of the jobs, but for those that were refused and all that came after them."""
        return [*self._admitted, *self._scheduler.planned]

    @property
    def given_up(self) -> str:
        """Why no further job would start; empty: they would."""
        return self._scheduler.given_up

    # --- before a job runs ----------------------------------------------------------------------------------------

    def admit(self, job: Job) -> None:
        """Take the next job in, which is composed and checked: it is to run, unless its recorded end counts.

        Raises:
            ConfigError: the nodes of the job cannot meet where they shall, or there are never so many hosts.
        """
        if self._state.pool is not None:
            self._state.pool.check_nodes(job)
        meet(job)
        history, num = self._state.history, job.num
        settled, value = history.settled_with_value(num)
        self._admitted.append((num, job.overrides))
        self._launches.append(job.launch)
        if settled is not None:
            self._scheduler.composed(None)
            self._ends.from_journal(job, settled, value, history.mode)
            return
        self._scheduler.composed(Attempt(job))
        if num not in history.recorded:  # a recorded job keeps its record until it is started again
            event = events.JobComposed(
                num=num,
                overrides=job.overrides,
                config=task_yaml(job),
                dir=str(job.output_dir),
                log_dir=str(job.log_dir),
                needs=demand_in_words(job.launch.demand),
                duration=job.launch.demand.duration or None,
            )
            self._journal.write(event)

    def _compose(self, num: int, overrides: list[str]) -> None:
        """Compose one more job; when it is refused, those that run may end, and no other starts."""
        try:
            job = signal_queue.interruptibly(self._state.composer.compose, num, overrides)
            self._state.composer.check_same([job])
            self.admit(job)
        except ConfigError as error:
            log.error("no more jobs are started: %s", error)
            self.refused = error
            nums = [num for num, _ in self._scheduler.planned]
            self._journal.write(events.JobsLeftOut(nums=nums, reason=one_line(str(error))))
            self._scheduler.give_up("a job of this sweep cannot be launched", forget_planned=True)

    # --- running --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the jobs to their ends, as many at once as the configuration says."""
        scheduler = self._scheduler
        while scheduler.planned and not scheduler.waiting:  # recorded jobs that are not to be run need no server
            self._compose(*scheduler.planned[0])
        if not scheduler.waiting:
            return
        try:
            self._run_on_servers()
        except ServerLost as error:
            scheduler.give_up(str(error))
            while not isinstance(step := scheduler.next(time.monotonic()), Done):
                self._leave_out(step)

    def _run_on_servers(self) -> None:
        """Run the jobs on one server; on another one if that was killed, which ends the jobs that ran and no others."""
        scheduler, in_vain = self._scheduler, 0
        method = self._launches[0].keys.start_method
        if method == INLINE:
            self._say_how_many("this process is the only one")
            self._work_off_or_stop(InlineAgents(self._state.shared), 0.0)
            return
        shutdown_timeout = timeouts.end_of_agent(max(launch.keys.shutdown_timeout for launch in self._launches))
        if self._state.pool is not None:
            self._run_on_hosts(self._state.pool, shutdown_timeout)
            return
        while scheduler.waiting or scheduler.planned:
            before = scheduler.starts
            with self._state.server.used(method, shutdown_timeout, [self._journal.lock]) as server:
                server.listener = self._state.control
                self._say_how_many("each in an interpreter of its own" if method == "spawn" else server.reason)
                agents = Agents(OwnServer(server), self._state.hosts, self._state.shared)
                self._work_off_or_stop(agents, shutdown_timeout, server)
            in_vain = in_vain + 1 if server.lost and scheduler.starts == before else 0
            if in_vain == _SERVERS_IN_VAIN:
                raise ServerLost(f"{in_vain} warm servers have died one after the other before they started a job")

    def _run_on_hosts(self, pool: HostPool, shutdown_timeout: float) -> None:
        """Run the jobs on other hosts, which are kept for the next batch unless an exception ends this one."""
        pool.serve(self._journal, shutdown_timeout)
        pool.listener = self._state.control
        names = ", ".join(pool.hosts)
        self._say_how_many(f"on other hosts ({names} {'is' if len(pool.hosts) == 1 else 'are'} there)")
        try:
            self._work_off_or_stop(Agents(pool, pool.hosts, self._state.shared), shutdown_timeout)
        except BaseException:
            pool.close()
            raise

    def _say_how_many(self, how: str) -> None:
        scheduler, settled = self._scheduler, self._state.history.settled
        count = len(scheduler.waiting) + sum(settled(num) is None for num, _ in scheduler.planned)
        way = f"{_size(self._launches)}; workers: {how}"
        # A sweeper with many batches would repeat the same line for each of them.
        level = logging.INFO if way != self._state.said_way or scheduler.starts else logging.DEBUG
        self._state.said_way = way
        what = "the run" if self._state.single else f"{count} job, each" if count == 1 else f"{count} jobs, each"
        log.log(level, "Launching %s with %s; output: %s", what, way, shown_path(self._state.dir))

    def _work_off_or_stop(
        self, agents: Agents | InlineAgents, shutdown_timeout: float, server: Client | None = None
    ) -> None:
        try:
            with self._view.shown(server):
                self._work_off(agents)
        except BaseException as interrupt:
            order = order_of(interrupt)
            self._hands.close("the sweep is being stopped")
            try:
                agents.stop([running.attempt for running in self._scheduler.running.values()], order, shutdown_timeout)
            finally:
                self._end_all(agents, order)
            raise

    def _end_all(self, agents: Agents | InlineAgents, order: Order) -> None:
        """Note the ends of all jobs that ran when the launcher was told to stop."""
        for num, running in list(self._scheduler.running.items()):
            for rank in running.nodes_left():
                process = agents.process(num, rank)
                running.ends[rank] = returns.of(running.attempt.job, process, running.order or order)
            self._scheduler.ended(num)
            self._ends.ended(running.attempt, gang.end_of(running.ends, running.attempt.job))

    def _work_off(self, agents: Agents | InlineAgents) -> None:
        """Do what the scheduler says until all jobs have ended, or the server is lost."""
        scheduler = self._scheduler
        while True:
            signal_queue.check()
            self._hands.do_what_is_asked(agents)
            self._view.look()
            self._give_back_emptied()
            now = time.monotonic()
            if self._state.pool is not None:
                self._look_at_hosts(self._state.pool, agents, now)
            step = scheduler.next(now, self._blocked(agents, now))
            if isinstance(step, Done):
                return
            if agents.lost and not scheduler.running and not scheduler.given_up:
                return
            self._do(step, agents)
            for num, rank in agents.ended():
                self._note_end(num, rank, agents)

    def _look_at_hosts(self, pool: HostPool, agents: Agents | InlineAgents, now: float) -> None:
        """See which hosts have come or gone; the jobs of a host that was told to stop get that signal."""
        pool.look(now, self._scheduler)
        for event in pool.take_stores():
            self._start_other_nodes(event, pool, agents)
        for host, number in pool.take_told():
            nums = [num for num, running in self._scheduler.running.items() if running.is_on(host)]
            jobs = ", ".join(f"#{num}" for num in nums) or "no job"
            log.warning("host %s: told to stop by %s; %s told as well", host, signal.Signals(number).name, jobs)
            for num in nums:
                agents.signal(num, number, host)

    def _do(self, step: Step, agents: Agents | InlineAgents) -> None:
        if isinstance(step, StartJob):
            self._start(step, agents)
        elif isinstance(step, ComposeJob):
            self._compose(step.num, step.overrides)  # the jobs that run need nothing of this process meanwhile
            if self._scheduler.running:
                agents.wait(time.monotonic())
        elif isinstance(step, StopAgent):
            log.warning("#%s: told to stop by %s", step.num, step.order)
            agents.signal(step.num, step.order.number)
        elif isinstance(step, KillAgent):
            agents.kill(step.num)
        elif isinstance(step, LeaveOut):
            self._ends.left_out(step)
        elif isinstance(step, Wait):
            agents.wait(self._hands.until(self._view.until(step.until)))

    def _leave_out(self, step: Step) -> None:
        """Do what the scheduler says when there is no server any more."""
        if isinstance(step, ComposeJob):
            self._compose(step.num, step.overrides)
        elif isinstance(step, LeaveOut):
            self._ends.left_out(step)

    def _blocked(self, agents: Agents | InlineAgents, now: float) -> Blocked | None:
        """Return what keeps jobs from being started, looking anew where one might be."""
        lost, obstacle, waiting = agents.lost, self._state.obstacle, self._scheduler.waiting
        if not lost and self._scheduler.pause(now) == 0.0:
            obstacle.look(self._journal, waiting[0].job if waiting else None)
        if self._state.pool is not None and self._state.pool.problem:
            return Blocked(self._state.pool.problem, lasting=True)
        return obstacle.blocked or (Blocked("the warm server has died") if lost else None)

    def _start(self, step: StartJob, agents: Agents | InlineAgents) -> None:
        """Start a job's agents in its slots; if that fails, the job goes back to where it was."""
        attempt, slots, job = step.attempt, step.slots, step.attempt.job
        try:
            if not self._state.single:
                extra = IN_THE_LOG_ONLY if self._state.results.says_little else None
                where = "" if self._state.pool is None else f" on {', '.join(slot.host for slot in slots)}"
                log.info("\t#%s%s : %s", job.num, where, " ".join(filter_overrides(job.overrides)), extra=extra)
            if said := in_words(job.launch.keys.debug):
                log.info("%s", said)
            if attempt.journal_path is None:
                attempt.journal_path, attempt.journal_start = self._journal.path, self._journal.position()
            restart = next_restart(str(job.log_dir))
            held = [_held(slot, "" if self._state.pool is None else slot.host) for slot in slots]
            event = events.AttemptStarted(
                num=job.num,
                attempt=attempt.number,
                **held[0],
                first_restart=restart,
                nodes=held if len(held) > 1 else None,
            )
            self._journal.write(event)
            several_slots = str(self._state.settings.parallel) != "1" or self._state.pool is not None
            side_by_side = several_slots and self._scheduler.size > 1
            attempt.label = f"#{job.num}" if side_by_side else ""
            attempt.stdin = not side_by_side and standard_input.is_ours() and self._state.pool is None
            attempt.foreground = self._state.foreground.path if self._state.foreground is not None else ""
            attempt.terminal = standard_input.terminal() if job.launch.keys.debug == POST_MORTEM else ""
            attempts = self._for_nodes(attempt, slots, restart)
            now = len(attempts) if job.launch.rendezvous.endpoint else 1
            agents.start(attempts[:now], slots[:now])
            self._scheduler.running[job.num].later = attempts[now:]
        except ServerLost:
            self._scheduler.not_started(job.num)
        except BaseException:
            self._scheduler.not_started(job.num)
            raise

    def _for_nodes(self, attempt: Attempt, slots: Sequence[Slot], restart: int) -> list[Attempt]:
        """Return an attempt as each of its agents is to see it."""
        if len(slots) == 1:
            attempt.allowance = slots[0].allowance
            return [attempt]
        assert self._state.pool is not None
        names = {slot.host: self._state.pool.names(slot.host) for slot in slots}
        return gang.for_nodes(attempt, slots, names, restart)

    def _start_other_nodes(self, event: events.StoreOpened, pool: HostPool, agents: Agents | InlineAgents) -> None:
        """Start the agents of a job that have waited for its first one to say where they meet."""
        running = self._scheduler.running.get(event.num)
        if running is None or running.attempt.number != event.attempt or running.order is not None:
            return
        attempts, running.later = gang.met_at(running.later, event.endpoint), ()
        first_rank = len(running.slots) - len(attempts)
        slots = running.slots[first_rank:]
        holds = self._scheduler.hosts.holds  # a host may have been lost meanwhile, and be there again
        if lost := [slot.host for slot in slots if not (holds(slot) and pool.is_there(slot.host))]:
            end = returns.not_started(running.attempt.job, lost[0])
            running.ends.update(dict.fromkeys(range(first_rank, len(running.slots)), end))
            self._scheduler.node_failed(event.num, time.monotonic())
            agents.signal(event.num, signal.SIGTERM)
        else:
            agents.start(attempts, slots, first_rank)

    def _note_end(self, num: int, rank: int, agents: Agents | InlineAgents) -> None:
        """Note how the agent of one node of a job has ended; with the last one, the attempt has."""
        running = self._scheduler.running[num]
        slot, process = running.slots[rank], agents.process(num, rank)
        overdue = running.overdue and running.order is None and not running.ends
        host = slot.host if len(running.slots) > 1 else ""
        end = signal_queue.interruptibly(returns.of, running.attempt.job, process, running.order, overdue, host)
        has_died = _has_died(end) and running.order is None
        if self._state.pool is not None and isinstance(agents, Agents):
            end = agents.clocks(num, rank).here(end)
            self._state.pool.learn(end.imported)
            self._state.pool.agent_ended(slot.host, died=has_died and not running.overdue)
        else:
            self._state.server.learn(end.imported)
        running.ends[rank] = end
        if (leaving := agents.leaving(num, rank)) is not None:
            running.leaving.append(leaving)
        agents.forget(num, rank)
        if not running.nodes_left():
            self._settle(num, running)
        elif end.failure is not None and end.failure.kind is not Kind.preempted:
            self._scheduler.node_failed(num, time.monotonic())
            if end.failure.kind in _TELLS_NOBODY and end.failure.rank is None:
                agents.signal(num, signal.SIGTERM)

    def _settle(self, num: int, running: Running) -> None:
        """Take a job whose agents have ended out of those that run: the job has ended, or it is tried again."""
        self._scheduler.ended(num)
        following = self._ends.after(running.attempt, gang.end_of(running.ends, running.attempt.job))
        if following is not None:
            self._scheduler.try_again(following)

    def _give_back_emptied(self) -> None:
        """Give back the slots whose GPUs are empty again, or should have been long ago."""
        for leaving in list(self._scheduler.leaving):
            gpu_memory = self._state.hosts[leaving.slot.host].gpu_memory
            occupied = gpu_memory.occupied(leaving)
            if occupied and time.monotonic() < leaving.deadline:
                continue
            self._scheduler.has_left(leaving)
            for gpu, used in occupied.items():
                log.warning(
                    "GPU %s: %.1f GB of a job that has ended are still in use; the next one starts all the same "
                    "(hydra.launcher.resources.gpu_memory_wait=%g)",
                    gpu,
                    used / 1e9,
                    gpu_memory.wait,
                )


def _held(slot: Slot, host: str) -> dict[str, Any]:
    """Return what a job holds of a host, as the journal says it."""
    cpus = sorted(slot.allowance.cpus) if slot.allowance is not None else []
    return {"host": host, "gpus": slot.gpus, "cpus": cpus}


def _has_died(end: AttemptEnd) -> bool:
    """Whether it is an agent that has died, and not the workers, or a signal, that have ended an attempt."""
    return end.agent_lost and end.failure is not None and end.failure.kind is Kind.agent


def _size(launches: list[Launch]) -> str:
    sizes = sorted({launch.nproc_per_node for launch in launches})
    workers = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"{workers} worker{'s' if sizes[-1] > 1 else ''} per node"
