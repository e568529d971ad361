"""The elastic agent: torch's, but it waits for events and never takes a failed group for a finished one.

One agent runs on each node of a job, and starts, watches and stops the workers of that node. Its loop is: wait until a
worker has ended, a limit is due for a look, or the other nodes are due to be asked; decide the next step; carry it out.

Who dies with whom: workers die with their agent, since they were started through its connection to the server. An agent
outlives its workers, and returns only when they are gone. When a node is lost, the agents of the other nodes notice by
its missing sign of life (`nodes.peers`).

What must never happen: a worker group is started while one of its workers still runs; two nodes act on different
verdicts about one failure (`nodes.consensus`); a restart is logged before it is recorded.
"""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from torch.distributed import DistError
from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE, RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.metrics import put_metric
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
)
from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra import timeouts
from elastic_hydra.compat.torch import construct_event, has_uninterruptible_state, start_workers_by
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.watch import Action
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic.nodes.consensus import FailureConsensus
from elastic_hydra.elastic.nodes.peers import Peers, connected
from elastic_hydra.elastic.starter import Starter
from elastic_hydra.elastic.worker_failure import WorkerFailure, death_of, facts_of
from elastic_hydra.elastic.worker_group import WorkerGroup
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Evidence, MemoryFacts, Overrun
from elastic_hydra.failures.policy import Decision, decide, in_time
from elastic_hydra.failures.standstill import explain, place_in
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.supervisor.client import ServerLost
from elastic_hydra.supervisor.signal_queue import interruptibly
from elastic_hydra.watch.memory import Kills, count_kills, memory_facts
from elastic_hydra.watch.sampler import Watch
from elastic_hydra.watch.stacks_request import StacksRequest

__all__ = ["IN_THE_LOG_ONLY", "ElasticAgent"]

logger = get_logger("elastic_hydra.agent")

IN_THE_LOG_ONLY = {"in_the_log_only": True}
"""Goes with records about what the launcher of a sweep says on the console itself, in `sweep.console`."""

_USUAL_ROLES = ("default", "default_role")
"""Our default and torch's: lines of the log do not repeat them."""


def _start_processes(*, start_method: Starter, numa_options: Any = None, **arguments: Any) -> WorkerGroup:
    """Stand for `torch.distributed.elastic.multiprocessing.start_processes`, and take its arguments."""
    workers = start_method.workers = WorkerGroup(start_method, **arguments)
    workers.start()
    return workers


class _Next(Enum):
    """What an agent does after a look at its workers and at the other nodes."""

    GO_ON = 1
    FINISH = 2
    FOLLOW = 3
    """Restart the group because the nodes change; costs no restart."""
    RESTART = 4
    GIVE_UP = 5


class ElasticAgent(LocalElasticAgent):
    """Runs the workers of one job on one node.

    Args:
        starter: how it starts them.
        retry: when a failed group is started again; None: as torch does, `max_restarts` times, at once, whatever the
            cause.
        history: when the job was restarted before, by earlier agents, on the monotonic clock, in seconds.
        elapsed: seconds that they have used of the job's time.
        on_verdict: is told every decision about a failure.
        Everything else as in `LocalElasticAgent` of the installed torch.
    """

    def __init__(
        self,
        *args: Any,
        starter: Starter,
        retry: RetryConfig | None = None,
        history: Sequence[float] = (),
        elapsed: float = 0.0,
        on_verdict: Callable[[Verdict], None] | None = None,
        **kwargs: Any,
    ) -> None:
        # torch has the name of a start method here, and only hands it on to where processes are started.
        super().__init__(*args, **{**kwargs, "start_method": starter})
        self._starter = starter
        self._peers: Peers | None = None
        self._consensus: FailureConsensus | None = None
        self._retries_rendezvous = retry is not None
        self._policy = retry or RetryConfig(max_restarts=self._worker_group.spec.max_restarts, never_on=[])
        self._history = list(history)
        self._remaining_restarts -= len(self._history)
        self._on_verdict = on_verdict
        self._watch = Watch(starter.config.watch, elapsed)
        self._kills: Kills
        """Until the workers were started."""
        self._overrun: Overrun | None = None
        self._stacks_request = StacksRequest()
        self._stop_signal: signal.Signals | None = None
        """What the workers get instead of SIGTERM, while they are stopped."""
        role = self._worker_group.spec.role
        self._line_prefix = "" if role in _USUAL_ROLES else f"[{role}] "
        self.verdict: Verdict | None = None
        """The last decision about a failure: why the job has ended, if it has failed."""

    _start_workers = start_workers_by(_start_processes)
    _construct_event = construct_event

    def _rendezvous(self, worker_group: Any) -> None:
        self.close_peers()
        interruptibly(super()._rendezvous, worker_group)
        if worker_group.group_world_size > 1:
            handler = self._rdzv_handler
            self._peers = Peers(
                worker_group.store,
                worker_group.group_rank,
                worker_group.group_world_size,
                patience=getattr(handler, "patience", 15.0),
                interval=getattr(handler, "interval", 0.1),
            )
            self._consensus = FailureConsensus(
                worker_group.store, worker_group.group_rank, worker_group.group_world_size
            )
            self._history = interruptibly(self._consensus.common_history, self._history)
            self._remaining_restarts = worker_group.spec.max_restarts - len(self._history)

    def _initialize_workers(self, worker_group: Any) -> None:
        self._kills = count_kills()
        super()._initialize_workers(worker_group)
        workers = self._pcontext
        assert isinstance(workers, WorkerGroup)
        self._watch.begin(workers, self._global_ranks())

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, *args: Any, **kwargs: Any) -> None:
        # Torch knows a group only when all of it has been started; a part of it must be stopped, too.
        self._pcontext = self._starter.workers
        super()._shutdown(self._stop_signal or death_sig, *args, **kwargs)

    def close_peers(self) -> None:
        """Stop talking to the other nodes of this round."""
        self._consensus = None
        if self._peers is not None:
            self._peers.close()
            self._peers = None

    def leave(self, reason: str) -> None:
        """Tell the other nodes that this one takes part no more: they go on without it, or wait for another, or fail.

        Args:
            reason: for people on the other nodes.
        """
        if self._peers is not None:
            with contextlib.suppress(RendezvousError):  # no other node can be reached
                self._peers.report_loss(f"{reason} on host {socket.gethostname()}")

    def _is_elastic(self) -> bool:
        return bool(getattr(self._rdzv_handler, "elastic", False))

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        try:
            with self._stacks_request if self._starter.config.on_stacks is not None else contextlib.nullcontext():
                return self._supervise()
        except SignalException as error:
            self._announce_preemption(error.sigval)
            raise

    def _supervise(self) -> RunResult:
        group = self._worker_group
        spec = group.spec
        role = spec.role
        logger.info("%sstarting workers for entrypoint: %s", self._line_prefix, spec.get_entrypoint_name())
        self._begin(self._initialize_workers)
        while True:
            self._wait()
            self._answer_stacks_request()
            result: RunResult = self._monitor_workers(group)
            group.state = result.state
            put_metric(f"workers.{role}.remaining_restarts", self._remaining_restarts)
            put_metric(f"workers.{role}.{result.state.name.lower()}", 1)

            step, reason = self._next_step(result)
            if step is _Next.FINISH:
                return result
            if step is _Next.GIVE_UP:
                self.verdict = self._published_verdict() or self._verdict_of_another_node(reason)
                logger.error("%s%s", self._line_prefix, reason, extra=IN_THE_LOG_ONLY)
                return self._give_up(result, reason)
            if step is _Next.RESTART:
                verdict = self._published_verdict() or self._judge(result, reason)
                if not self._follow(verdict):
                    return self._give_up(result, verdict.failure.reason)
            elif step is _Next.FOLLOW:
                logger.warning(
                    "%s%s; restarting the worker group with the nodes that are there", self._line_prefix, reason
                )
            if step is not _Next.GO_ON:
                self._begin(self._restart_workers)

    def _next_step(self, result: RunResult) -> tuple[_Next, str]:
        """Decide what follows from the state of this node's workers and from what happens on the other nodes."""
        if result.state == WorkerState.SUCCEEDED:
            return interruptibly(self._wait_for_others)
        if result.state == WorkerState.HEALTHY:
            self._overrun = self._over_limit()
            if self._overrun is not None:
                return _Next.RESTART, self._overrun.reason
            return interruptibly(self._look_around)
        if result.state not in {WorkerState.UNHEALTHY, WorkerState.FAILED}:
            raise RuntimeError(f"[{self._worker_group.spec.role}] worker group in {result.state.name} state")
        if self._peers is not None and self._is_elastic() and self._published_verdict() is None:
            # On an elastic rendezvous, workers mostly fail because a node is gone, and their connections with it. That
            # is a change of membership, and costs no restart.
            news = interruptibly(self._peers.loss, lambda: self._rdzv_handler.num_nodes_waiting() > 0)
            if news is not None and news.failed:
                return _Next.GIVE_UP, f"the job failed on another node: {news.text}"
            if news is not None:
                return _Next.FOLLOW, news.text
        return _Next.RESTART, f"worker group is {result.state.name}"

    def _look_around(self) -> tuple[_Next, str]:
        """Decide whether something on another node concerns workers that run, or are done, on this one."""
        if (verdict := self._published_verdict()) is not None:
            return _Next.RESTART, verdict.failure.reason
        news = self._peers.news() if self._peers is not None else None
        if news is not None and news.failed:
            return _Next.GIVE_UP, f"the job failed on another node: {news.text}"
        if news is not None and self._is_elastic():
            return _Next.FOLLOW, news.text
        if news is not None:
            can_replace = getattr(self._rdzv_handler, "can_replace", True)
            return (_Next.RESTART if can_replace else _Next.GIVE_UP), f"the job lost a node: {news.text}"
        waiting = self._rdzv_handler.num_nodes_waiting() if self._has_others() else 0
        return (_Next.FOLLOW, f"{waiting} node(s) waiting to join") if waiting > 0 else (_Next.GO_ON, "")

    def _wait_for_others(self) -> tuple[_Next, str]:
        """Wait until the workers of all nodes are done.

        torch waits blindly here: a node that fails meanwhile is not noticed, one that restarts its workers waits for
        this one in vain, and this node's own sign of life is blocked.
        """
        if self._peers is None:
            return _Next.FINISH, ""
        timeout = self._exit_barrier_timeout
        deadline, pause = time.monotonic() + timeout, 0.01
        try:
            self._peers.report_done()
            while not self._peers.all_done():
                step, reason = self._look_around()
                if step is not _Next.GO_ON:
                    return step, reason
                if time.monotonic() > deadline:
                    logger.error("the workers of other nodes have not finished %s s after those of this one", timeout)
                    break
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
        except RendezvousConnectionError as error:
            # The node with the store may end first; it does not while others work.
            logger.warning("this node is done; of the others is only known that %s", error)
        return _Next.FINISH, ""

    def _wait(self) -> None:
        """Wait until a worker ends, or it is time to look at limits, or at other nodes, which can only be polled."""
        workers = self._pcontext
        assert isinstance(workers, WorkerGroup)
        polls = self._has_others() or has_uninterruptible_state(self)
        pauses = [self._worker_group.spec.monitor_interval] if polls else []
        if (until_look := self._watch.pause()) is not None:
            pauses.append(until_look)
        workers.wait_for_end(min(pauses, default=None), lambda: self._stacks_request.is_there)

    def _answer_stacks_request(self) -> None:
        """Have the stacks written if somebody wants to see them."""
        if not self._stacks_request.is_there:
            return
        self._stacks_request.is_there = False
        workers, on_stacks = self._pcontext, self._starter.config.on_stacks
        assert isinstance(workers, WorkerGroup)
        written = workers.write_stacks("asked for by a user", last=False)
        ranks = self._global_ranks()
        if on_stacks is not None:
            on_stacks({ranks[local]: stacks for local, stacks in written.items()})

    def _global_ranks(self) -> dict[int, int]:
        return {worker.local_rank: worker.global_rank for worker in self._worker_group.workers}

    def _has_others(self) -> bool:
        return self._peers is not None or bool(getattr(self._rdzv_handler, "can_grow", True))

    def _give_up(self, result: RunResult, reason: str) -> RunResult:
        """Stop the group and describe its end as a failure: torch returns an UNHEALTHY group like a finished one."""
        group = self._worker_group
        failures = dict(result.failures)
        if result.state == WorkerState.UNHEALTHY:
            reason = "a process of the worker group hangs in the kernel"
        if not failures:
            ranks = [worker.global_rank for worker in group.workers]
            culprit = self.verdict.failure.rank if self.verdict is not None else None
            for worker in group.workers:
                if culprit in ranks and worker.global_rank != culprit:
                    continue
                failures[worker.global_rank] = WorkerFailure.of(
                    worker.local_rank, worker.id or 0, 1, self._error_file(worker.local_rank), what=reason
                )
        if self._peers is not None:
            with contextlib.suppress(RendezvousError):
                rank, first = next(iter(failures.items()))
                text = first.message if isinstance(first.message, str) else str(first.message.get("message"))
                self._peers.report_failure(f"{text} (rank {rank} on host {socket.gethostname()})")
        self._stop_as_decided()
        group.state = WorkerState.FAILED
        return RunResult(state=WorkerState.FAILED, failures=failures)

    def _error_file(self, local_rank: int) -> str:
        return self._pcontext.error_files[local_rank] if self._pcontext is not None else ""

    # --- verdicts -------------------------------------------------------------------------------------------------

    def _begin(self, start: Callable[[Any], None]) -> None:
        """Start the group; when the nodes do not find together, as often as the policy allows."""
        while True:
            try:
                with contextlib.suppress(ServerLost):  # the start that follows reports it
                    self._starter.server.prepare(self._worker_group.spec.local_world_size)
                start(self._worker_group)
                return
            except (RendezvousClosedError, RendezvousGracefulExitError):  # noqa: PERF203
                raise
            except (RendezvousError, DistError) as error:
                if not self._retries_rendezvous:
                    raise
                self._consensus = None  # the nodes have not met: each decides for itself
                evidence = Evidence(socket.gethostname(), time.time(), rendezvous=facts_of(error))
                if not self._follow(self._settled(classify(evidence))):
                    raise

    def _over_limit(self) -> Overrun | None:
        """Return the limit because of which the group is stopped; one that is only logged is, with the stacks."""
        workers = self._pcontext
        if isinstance(workers, WorkerGroup) and workers.is_failing():
            return None  # the others stand still because that worker has failed, and are stopped soon
        for overrun in self._watch.look():
            if overrun.kind is Kind.timeout or self._starter.config.watch.action is not Action.log:
                return overrun
            assert isinstance(self._pcontext, WorkerGroup)
            overrun, files = self._look_into(overrun, last=False)
            logger.warning("%s%s; nothing is done (watch.action=log)%s", self._line_prefix, overrun.reason, _see(files))
        return None

    def _look_into(self, overrun: Overrun, *, last: bool) -> tuple[Overrun, tuple[str, ...]]:
        """Have the workers' stacks written, and say what they show of a hang: who is not where the others wait.

        Args:
            overrun: the limit that is exceeded.
            last: whether the workers are stopped afterwards.

        Returns:
            also the files.
        """
        workers = self._pcontext
        assert isinstance(workers, WorkerGroup)
        written = workers.write_stacks(overrun.reason, last=last)
        files = tuple(stack.path for stack in written.values() if stack.path)
        if overrun.kind is not Kind.hang:
            return overrun, files
        ranks = self._global_ranks()
        places = {
            ranks[local]: place for local, stack in written.items() if (place := place_in(stack.text)) is not None
        }
        culprit, words = explain(
            places, {ranks[local]: how for local, how in workers.how_they_left().items()}, overrun.rank
        )
        rank = overrun.rank if culprit is None else culprit
        return replace(overrun, rank=rank, reason=f"{overrun.reason}; {words}" if words else overrun.reason), files

    def _published_verdict(self) -> Verdict | None:
        """Return the verdict that another node has published."""
        if self._consensus is None:
            return None
        with connected():
            return self._consensus.read()

    def _judge(self, result: RunResult, reason: str) -> Verdict:
        """Find out what has failed, decide what follows, and agree on it with the other nodes."""
        overrun, self._overrun = self._overrun, None
        host, now = socket.gethostname(), time.time()
        workers = self._pcontext
        assert isinstance(workers, WorkerGroup)
        stuck = result.state == WorkerState.UNHEALTHY
        if not result.failures and overrun is None and not stuck:
            return self._settled(Failure(Kind.peer, reason, host, now))
        stacks: tuple[str, ...] = ()
        if overrun is not None:
            overrun, stacks = self._look_into(overrun, last=True)
        deaths = [death_of(rank, failure, workers.started) for rank, failure in result.failures.items()]
        killed = [death.pid for death in deaths if death.exitcode == -9]
        evidence = Evidence(
            host,
            now,
            deaths,
            overrun,
            memory=memory_facts(self._kills, killed) if killed else MemoryFacts(),
            stuck=stuck,
            nodes=self._worker_group.group_world_size or 1,
            stacks=stacks,
        )
        must_end = overrun is not None and self._starter.config.watch.action is Action.fail
        return self._settled(classify(evidence), Decision(False, "watch.action=fail") if must_end else None)

    def _announce_preemption(self, number: signal.Signals) -> None:
        """Tell the other nodes that this one has to go, before its workers are told: theirs get the same signal.

        So all ranks can write one checkpoint, and ranks that lose their connection to this node are not taken for
        failures.
        """
        if self._consensus is None:
            return
        failure = classify(Evidence(socket.gethostname(), time.time(), signal_to_agent=number.name))
        decision = None
        if self._is_elastic():
            decision = Decision(True, "the nodes that are left go on: this restart does not count", counts=False)
        elif not getattr(self._rdzv_handler, "can_replace", True):
            decision = Decision(False, f"a {self._rdzv_handler.get_backend()} rendezvous takes no node back")
        with contextlib.suppress(RendezvousConnectionError), connected():  # no other node can be reached
            self._consensus.publish_and_leave(self._proposed(failure, decision))

    def _stop_as_decided(self) -> None:
        """Stop the workers; if a node was preempted, by the signal that it got."""
        failure = self.verdict.failure if self.verdict is not None else None
        if failure is not None and failure.kind is Kind.preempted:
            self._stop_signal = signal.Signals[failure.signal]
        try:
            self._stop_workers(self._worker_group)
        finally:
            self._stop_signal = None

    def _proposed(self, failure: Failure, decision: Decision | None) -> Verdict:
        if decision is None:
            # Jobs that have died together must not draw the same delay, and all of them may have seeded `random` alike.
            draw = random.SystemRandom().random()
            decision = decide(self._policy, self._history, failure, time.monotonic(), draw)
        return Verdict(failure, in_time(decision, self._watch.time_left()), time.time())

    def _settled(self, failure: Failure, decision: Decision | None = None) -> Verdict:
        proposed = self._proposed(failure, decision)
        if self._consensus is None:
            return proposed
        if failure.kind is Kind.peer:
            # A worker of ours lost its connection to a worker of another node. The node whose worker has died knows the
            # cause and publishes it at once: wait for it a moment.
            deadline = time.monotonic() + timeouts.ROOT_CAUSE_PATIENCE
            while time.monotonic() < deadline:
                if (verdict := self._published_verdict()) is not None:
                    return verdict
                self._pause(0.05)
        with connected():
            return self._consensus.propose(proposed)

    def _verdict_of_another_node(self, reason: str) -> Verdict:
        now = time.time()
        return Verdict(Failure(Kind.peer, reason, socket.gethostname(), now), Decision(False, "the job has ended"), now)

    def _follow(self, verdict: Verdict) -> bool:
        """Do what was decided, up to the restart itself.

        Returns:
            whether the group is to be started again.
        """
        self.verdict = verdict
        failure, decision = verdict.failure, verdict.decision
        when = f"in {decision.after:.1f} s" if decision.after > 0 else "at once"
        outcome = f"restarting the workers {when}" if decision.again else "not restarted"
        if self._on_verdict is not None:
            self._on_verdict(verdict)  # the journal first: whoever reads the log line below finds it in the journal
        log = logger.warning if decision.again else functools.partial(logger.error, extra=IN_THE_LOG_ONLY)
        log("%s%s; %s: %s%s", self._line_prefix, failure.reason, outcome, decision.reason, _see(failure.stacks))
        if not decision.again:
            if self._consensus is not None:
                with contextlib.suppress(DistError):
                    interruptibly(self._consensus.wait_until_read)
            return False
        self._stop_as_decided()
        self._pause(verdict.decision.after)
        if decision.counts:
            self._history.append(time.monotonic())
            self._remaining_restarts -= 1
        return True

    def _pause(self, seconds: float) -> None:
        """Wait; a signal to this agent ends it at once."""
        deadline = time.monotonic() + seconds
        try:
            self._starter.server.wait(lambda: False, seconds)
        except ServerLost:  # the next start reports it
            interruptibly(time.sleep, max(0.0, deadline - time.monotonic()))


def _see(files: Sequence[str]) -> str:
    """Point to the files with the workers' stacks."""
    if not files:
        return ""
    more = f" and those of {len(files) - 1} more ranks" if len(files) > 1 else ""
    return f"; stacks: {files[0]}{more}"
