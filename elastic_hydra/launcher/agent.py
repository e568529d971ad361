"""The elastic agent: torch's, but it waits for events and knows no way to take a failed group for a finished one."""

from __future__ import annotations

import contextlib
import socket
import time
from enum import Enum
from typing import Any

from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE, RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.metrics import put_metric
from torch.distributed.elastic.metrics.api import prof
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousError
from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra.launcher.failure import WorkerFailure
from elastic_hydra.launcher.peers import Peers
from elastic_hydra.launcher.seam import with_globals
from elastic_hydra.launcher.workers import Starter, Workers

__all__ = ["ElasticAgent"]

logger = get_logger(__name__)


def _start_processes(*, start_method: Starter, **arguments: Any) -> Workers:
    return start_method.start(**arguments)


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
        Everything else as in `LocalElasticAgent` of the installed torch.
    """

    def __init__(self, *args: Any, starter: Starter, **kwargs: Any) -> None:
        super().__init__(*args, start_method=starter, **kwargs)
        self._starter = starter
        self._peers: Peers | None = None

    # torch offers no seam for how the processes of a group are made, so its method runs with that one name replaced.
    _start_workers = prof(with_globals(LocalElasticAgent._start_workers, start_processes=_start_processes))

    def _rendezvous(self, worker_group: Any) -> None:
        self.close_peers()
        super()._rendezvous(worker_group)
        if worker_group.group_world_size > 1:
            handler = self._rdzv_handler
            self._peers = Peers(
                worker_group.store,
                worker_group.group_rank,
                worker_group.group_world_size,
                patience=getattr(handler, "patience", 15.0),
                interval=getattr(handler, "interval", 0.1),
            )

    def close_peers(self) -> None:
        """Stop talking to the other nodes of this round."""
        if self._peers is not None:
            self._peers.close()
            self._peers = None

    def leave(self, reason: str) -> None:
        """Tell the other nodes that this one takes part no more: they go on without it if they can, and fail else.

        Args:
            reason: for people on the other nodes.
        """
        text = f"{reason} on host {socket.gethostname()}"
        with contextlib.suppress(RendezvousError):  # then there is nobody to tell
            if self._peers is not None and self._is_elastic():
                self._peers.report_loss(text)
            elif self._peers is not None:
                self._peers.report_failure(text)

    def _is_elastic(self) -> bool:
        return bool(getattr(self._rdzv_handler, "elastic", False))

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        group = self._worker_group
        spec = group.spec
        role = spec.role
        logger.info("[%s] starting workers for entrypoint: %s", role, spec.get_entrypoint_name())
        self._initialize_workers(group)
        while True:
            self._wait()
            result = self._monitor_workers(group)
            group.state = result.state
            put_metric(f"workers.{role}.remaining_restarts", self._remaining_restarts)
            put_metric(f"workers.{role}.{result.state.name.lower()}", 1)

            step, reason = self._next_step(result)
            if step is _Next.FINISH:
                return result
            if step is _Next.GIVE_UP or (step is _Next.RESTART and self._remaining_restarts <= 0):
                return self._give_up(result, reason)
            if step is _Next.RESTART:
                logger.warning(
                    "[%s] %s; restarting the worker group (%s of %s restarts left)",
                    role,
                    reason,
                    self._remaining_restarts,
                    spec.max_restarts,
                )
                self._remaining_restarts -= 1
            elif step is _Next.FOLLOW:
                logger.warning("[%s] %s; restarting the worker group with the nodes that are there", role, reason)
            if step is not _Next.GO_ON:
                self._restart_workers(group)

    def _next_step(self, result: RunResult) -> tuple[_Next, str]:
        """Decide what follows from the state of this node's workers and from what happens on the other nodes."""
        if result.state == WorkerState.SUCCEEDED:
            return self._wait_for_others()
        if result.state == WorkerState.HEALTHY:
            return self._look_around()
        if result.state not in {WorkerState.UNHEALTHY, WorkerState.FAILED}:
            raise RuntimeError(f"[{self._worker_group.spec.role}] worker group in {result.state.name} state")
        if self._peers is not None and self._is_elastic():
            # Workers mostly fail because a node is gone. That is a change of membership, and costs no restart.
            news = self._peers.loss(lambda: self._rdzv_handler.num_nodes_waiting() > 0)
            if news is not None and news.failed:
                return _Next.GIVE_UP, f"the job failed on another node: {news.text}"
            if news is not None:
                return _Next.FOLLOW, news.text
        return _Next.RESTART, f"worker group is {result.state.name}"

    def _look_around(self) -> tuple[_Next, str]:
        """Decide whether something on another node concerns workers that run, or are done, on this one."""
        news = self._peers.news() if self._peers is not None else None
        if news is not None and news.failed:
            return _Next.GIVE_UP, f"the job failed on another node: {news.text}"
        if news is not None and self._is_elastic():
            return _Next.FOLLOW, news.text
        if news is not None:
            can_replace = getattr(self._rdzv_handler, "can_grow", True)
            return (_Next.RESTART if can_replace else _Next.GIVE_UP), f"the job lost a node: {news.text}"
        waiting = self._rdzv_handler.num_nodes_waiting() if self._has_others() else 0
        return (_Next.FOLLOW, f"{waiting} nodes wait to join") if waiting > 0 else (_Next.GO_ON, "")

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
        """Wait for the end of a worker; other nodes can only be polled, every monitor_interval."""
        workers = self._pcontext
        assert isinstance(workers, Workers)
        polls = self._has_others() or getattr(self, "_uninterruptible_state_timeout", 0.0) > 0
        workers.wait_for_end(self._worker_group.spec.monitor_interval if polls else None)

    def _has_others(self) -> bool:
        return self._peers is not None or bool(getattr(self._rdzv_handler, "can_grow", True))

    def _give_up(self, result: RunResult, reason: str) -> RunResult:
        """Stop the group and describe its end as a failure: torch returns an UNHEALTHY group like a finished one."""
        group = self._worker_group
        failures = dict(result.failures)
        if result.state == WorkerState.UNHEALTHY:
            reason = "a process of the worker group hangs in the kernel"
        if failures and reason:
            logger.error("[%s] %s", group.spec.role, reason)
        if not failures:
            for worker in group.workers:
                failures[worker.global_rank] = WorkerFailure.of(worker.local_rank, worker.id or 0, 1, "", what=reason)
        if self._peers is not None:
            with contextlib.suppress(RendezvousError):
                rank, first = next(iter(failures.items()))
                text = first.message if isinstance(first.message, str) else str(first.message.get("message"))
                self._peers.report_failure(f"{text} (rank {rank} on host {socket.gethostname()})")
        self._stop_workers(group)
        group.state = WorkerState.FAILED
        return RunResult(state=WorkerState.FAILED, failures=failures)
