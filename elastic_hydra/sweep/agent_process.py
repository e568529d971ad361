"""The main function of a job's agent process: Hydra's `run_job` around an elastic agent.

The launcher starts one such process per attempt at a job. It makes the job's output directory, calls the callbacks,
launches the workers, and hands a `FinishedJob` back. When it dies, the server ends the workers that it has started.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from elastic_hydra.compat.hydra_run_job import run_job
from elastic_hydra.elastic.worker_failure import facts_of
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Evidence
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.journal import events, writer
from elastic_hydra.launcher.api import launch_agent
from elastic_hydra.numa.binding import Binding
from elastic_hydra.supervisor import context
from elastic_hydra.supervisor.packed_error import PackedError, pack, unpack
from elastic_hydra.supervisor.users_frames import users_part
from elastic_hydra.sweep.compact import CompactReturn
from elastic_hydra.sweep.console import tell_apart
from elastic_hydra.sweep.errors import JobError, JobInterruptedError
from elastic_hydra.sweep.interpolations import evaluate_once
from elastic_hydra.sweep.job import Job
from elastic_hydra.sweep.launch_config import launch_config
from elastic_hydra.sweep.log_files import append_only, truncated_once
from elastic_hydra.sweep.task import HydraState, TaskResult, run_task

__all__ = ["FinishedJob", "run"]

log = logging.getLogger("elastic_hydra")

_ABOVE_THE_TASK = ("hydra.core.utils", __name__)
"""Modules whose frames, in the agent, say nothing about where a worker failed."""


@dataclass
class FinishedJob:
    """A `JobReturn` on its way to the launcher: exceptions and their frames need packing."""

    job_return: JobReturn
    error: PackedError | None
    failure: Failure | None
    """Why it failed, if its agent had a verdict on that."""
    restarts: tuple[float, ...] = ()
    """When its workers were restarted, in all attempts; see `Job`."""
    imported: frozenset[str] = frozenset()
    """Slow modules that its workers had to import: the warm server may spare the next ones that."""

    @classmethod
    def of(
        cls, job_return: JobReturn, failure: Failure | None, restarts: tuple[float, ...], imported: frozenset[str]
    ) -> FinishedJob:
        """Prepare a job's return for the journey."""
        job_return = CompactReturn.of(job_return, main=context.current().main_names)
        if job_return.status is not JobStatus.FAILED:
            return cls(job_return, None, None, restarts, imported)
        raised = job_return._return_value
        raised.__traceback__ = _users_part(raised.__traceback__)
        error = pack(raised, _known_to_hydra)
        job_return._return_value = None
        return cls(job_return, error, failure, restarts)

    def restored(self) -> JobReturn:
        """Return what the job returned, its exception with the worker's frames in it."""
        if self.error is not None:
            self.job_return.return_value = unpack(self.error)
        return self.job_return


def run(
    job: Job, task_function: TaskFunction, context: HydraContext, hydra_state: HydraState, argv: list[str]
) -> FinishedJob:
    """Run a job; called in an agent process of its own, once per job.

    Args:
        job: what to run.
        task_function: the user's, for the workers.
        context: Hydra's, of the sweep.
        hydra_state: Hydra's singletons, for processes that do not have them.
        argv: the launcher's `sys.argv`.
    """
    hydra_state.adopt()
    failures: list[Failure] = []
    imported: set[str] = set()

    @functools.wraps(task_function)
    def task(task_config: DictConfig) -> Any:
        tell_apart(job.label)
        evaluate_once(task_config)
        truncated_once(job.config)
        arguments = (task_config, job.config, context, hydra_state, argv, job.launch.keys.logs.other_ranks_level)
        return _launch(job, task_function, arguments, failures, imported)

    if job.attempt:
        append_only(job.config)
    job_return = run_job(
        task_function=task,
        config=job.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
    return FinishedJob.of(job_return, failures[-1] if failures else None, job.restarts, frozenset(imported))


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the agent's own frames, but for the one of `run_job`: Hydra hides all that is above it."""
    kept = users_part(trace, _ABOVE_THE_TASK)
    if trace is None or trace is kept:
        return kept
    return TracebackType(kept, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def _known_to_hydra(frame: FrameType) -> dict[str, Any]:
    """Return the local variable by which Hydra 1.4 knows the frame of `run_job`, and that its job has failed."""
    return {"ret": JobReturn(status=JobStatus.FAILED)} if frame.f_code.co_name in ("run_job", "_run_job") else {}


def _launch(
    job: Job, task_function: TaskFunction, arguments: tuple[Any, ...], failures: list[Failure], imported: set[str]
) -> Any:
    config = launch_config(
        job,
        on_verdict=functools.partial(_record_verdict, job),
        on_bindings=functools.partial(_record_bindings, job),
    )
    results: dict[int, TaskResult] = {}
    raised: BaseException | None = None
    host = socket.gethostname()
    try:
        results = launch_agent(config, run_task, [task_function, *arguments])
    except ChildFailedError as error:
        if (verdict := getattr(error, "verdict", None)) is not None:
            failures.append(_without_restart(verdict, job))
        raised = _explained(error, job)
    except SignalException as error:
        failures.append(classify(Evidence(host, time.time(), signal_to_agent=error.sigval.name)))
        raised = JobInterruptedError(failures[-1].reason)
    except RendezvousError as error:
        failures.append(classify(Evidence(host, time.time(), rendezvous=facts_of(error))))
        raised = JobError(str(error))
    if raised is not None:
        raise raised  # out here, because raising it above would replace the chain that it brought from the worker
    imported.update(name for result in results.values() for name in result.imported)
    values = {rank: result.value for rank, result in results.items()}
    return values.get(0) if job.launch.keys.return_values == "rank0" else values


def _record_verdict(job: Job, verdict: Verdict) -> None:
    """Write a decision about a failure into the journal, and keep what the launcher shall know without reading it."""
    decision, failure, moment = verdict.decision, verdict.failure, time.monotonic()
    if decision.again and decision.counts:
        job.restarts = (*job.restarts, moment)
    event = events.WorkersFailed(
        num=job.num,
        attempt=job.attempt,
        monotonic=round(moment, 3),
        again=decision.again,
        counts=decision.counts,
        reason=decision.reason,
        after=decision.after,
        failure=events.FailedWorker(
            kind=failure.kind.value,
            reason=failure.reason,
            rank=failure.rank,
            host=failure.host,
            exitcode=failure.exitcode,
            signal=failure.signal,
            names=failure.names,
            log_dir=failure.log_dir,
        ),
    )
    _record(job, event, "failure")


def _record(job: Job, event: events.Event, what: str) -> None:
    """Write an event into the journal; that it cannot be written is no reason for a job to end."""
    if job.journal is None:
        return
    try:
        writer.append(job.journal, event)
    except OSError as error:
        log.warning("#%s: %s cannot be written (%s): this %s is not in it", job.num, job.journal, error, what)


def _record_bindings(job: Job, bindings: Sequence[Binding]) -> None:
    """Leave the plan of where the workers run beside their logs, and in the journal."""
    plain = [binding.to_dict() for binding in bindings]
    (job.log_dir / "bindings.json").write_text(json.dumps(plain, indent=1) + "\n")
    _record(job, events.WorkersBound(num=job.num, attempt=job.attempt, workers=plain), "plan of bindings")


def _without_restart(verdict: Verdict, job: Job) -> Failure:
    """Return the failure, with the reason why no restart followed, where one might have."""
    return replace(verdict.failure, not_restarted=verdict.decision.reason if job.launch.keys.retry.max_restarts else "")


def _explained(error: ChildFailedError, job: Job) -> BaseException:
    """Return the failed worker's own exception, or a `JobError` where there is none, and say where it happened."""
    rank, failure = error.get_first_failure()
    logs = Path(failure.error_file).parent if os.path.isfile(failure.error_file) else job.log_dir
    host = f" on host {socket.gethostname()}" if job.launch.several_nodes else ""
    where = f"rank {rank}{host}; its logs: {logs}"
    original = error.__cause__
    verdict = getattr(error, "verdict", None)
    if original is None and verdict is not None:
        see = f"; stacks: {verdict.failure.stacks[0]}" if verdict.failure.stacks else ""
        return JobError(f"{verdict.failure.reason}{see}; its logs: {logs}")
    if original is None:
        message = failure.message if isinstance(failure.message, str) else str(failure.message.get("message"))
        return JobError(f"{message}: {where}")
    if not isinstance(original, Exception):
        # A KeyboardInterrupt in a worker is this job's end; raised in the launcher it would be the sweep's.
        interrupted = JobError(f"{type(original).__name__} in a worker: {where}")
        interrupted.__cause__ = original
        return interrupted
    if hasattr(original, "add_note"):  # Python 3.11; on 3.10 the launcher's log line has to do
        original.add_note(where)
    return original
