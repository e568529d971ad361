"""The elastic agent: torch's, but it waits for events and knows no way to take a failed group for a finished one."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch.distributed.elastic.agent.server.api import DEFAULT_ROLE, RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.metrics import put_metric
from torch.distributed.elastic.metrics.api import prof
from torch.distributed.elastic.utils.logging import get_logger

from elastic_hydra.launcher.failure import WorkerFailure
from elastic_hydra.launcher.workers import Starter, Workers

__all__ = ["ElasticAgent"]

logger = get_logger(__name__)


def _with_globals(function: Callable[..., Any], **replaced: Any) -> Callable[..., Any]:
    inner = function.__wrapped__ if hasattr(function, "__wrapped__") else function
    return types.FunctionType(inner.__code__, {**inner.__globals__, **replaced}, inner.__name__, inner.__defaults__)


def _start_processes(*, start_method: Starter, **arguments: Any) -> Workers:
    return start_method.start(**arguments)


class ElasticAgent(LocalElasticAgent):
    """Runs the workers of one job on one node.

    Args:
        starter: how it starts them.
        Everything else as in `LocalElasticAgent` of the installed torch.
    """

    def __init__(self, *args: Any, starter: Starter, **kwargs: Any) -> None:
        super().__init__(*args, start_method=starter, **kwargs)
        self._starter = starter

    # torch offers no seam for how the processes of a group are made, so its method runs with that one name replaced.
    # A copy of it would freeze the workers' environment at the torch version that was copied.
    _start_workers = prof(_with_globals(LocalElasticAgent._start_workers, start_processes=_start_processes))

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

            if result.state == WorkerState.SUCCEEDED:
                self._exit_barrier()
                return result
            if result.state == WorkerState.HEALTHY:
                self._follow_membership()
            elif result.state in {WorkerState.UNHEALTHY, WorkerState.FAILED}:
                if self._remaining_restarts <= 0:
                    return self._give_up(result)
                logger.warning(
                    "[%s] worker group %s; restarting it (%s of %s restarts left)",
                    role,
                    result.state.name,
                    self._remaining_restarts,
                    spec.max_restarts,
                )
                self._remaining_restarts -= 1
                self._restart_workers(group)
            else:
                raise RuntimeError(f"[{role}] worker group in {result.state.name} state")

    def _wait(self) -> None:
        """Wait for the end of a worker; look for waiting nodes, which can only be polled, every monitor_interval."""
        workers = self._pcontext
        assert isinstance(workers, Workers)
        polls = self._watches_membership() or getattr(self, "_uninterruptible_state_timeout", 0.0) > 0
        workers.wait_for_end(self._worker_group.spec.monitor_interval if polls else None)

    def _watches_membership(self) -> bool:
        return bool(getattr(self._rdzv_handler, "can_grow", True))

    def _follow_membership(self) -> None:
        if not self._watches_membership():
            return
        waiting = self._rdzv_handler.num_nodes_waiting()
        if waiting > 0:
            logger.info("[%s] %s new nodes; restarting the worker group", self._worker_group.spec.role, waiting)
            self._restart_workers(self._worker_group)  # does not cost a restart

    def _give_up(self, result: RunResult) -> RunResult:
        """Stop the group and describe its end as a failure: torch returns an UNHEALTHY group like a finished one."""
        group = self._worker_group
        failures = dict(result.failures)
        if not failures:
            for worker in group.workers:
                what = f"the worker group is {result.state.name}: a process of it hangs in the kernel"
                failures[worker.global_rank] = WorkerFailure.of(worker.local_rank, worker.id or 0, 1, "", what=what)
        self._stop_workers(group)
        group.state = WorkerState.FAILED
        return RunResult(state=WorkerState.FAILED, failures=failures)
