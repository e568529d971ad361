"""The main function of a job's agent process: Hydra's `run_job` around an elastic agent.

The launcher starts one such process per attempt at a job. It makes the job's output directory, calls the callbacks,
launches the workers, and hands an `AttemptEnd` back. When it dies, the server ends the workers that it has started.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import RendezvousError

from elastic_hydra.compat import cpython
from elastic_hydra.compat.hydra import returned, without_callbacks
from elastic_hydra.compat.hydra_run_job import run_job
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic.worker_failure import WorkersFailedError, facts_of
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Evidence
from elastic_hydra.failures.verdict import Verdict
from elastic_hydra.jobs.attempt_end import AttemptEnd, agent_failure
from elastic_hydra.jobs.compact import CompactReturn
from elastic_hydra.jobs.console import tell_apart
from elastic_hydra.jobs.errors import JobError, JobInterruptedError
from elastic_hydra.jobs.interpolations import evaluate_once
from elastic_hydra.jobs.job import Attempt, Job
from elastic_hydra.jobs.launch_config import launch_config
from elastic_hydra.jobs.log_files import append_only, truncated_once
from elastic_hydra.jobs.meeting_point import check_store_is_reached, met
from elastic_hydra.jobs.other_node import for_other_node
from elastic_hydra.jobs.program import Program
from elastic_hydra.jobs.task import HydraState, TaskResult, record_start, run_task
from elastic_hydra.journal import events, writer
from elastic_hydra.launcher.api import launch_agent
from elastic_hydra.numa.binding import Binding
from elastic_hydra.overview.log_files import has_files
from elastic_hydra.supervisor import context
from elastic_hydra.supervisor.packed_error import pack
from elastic_hydra.supervisor.users_frames import users_part
from elastic_hydra.watch.stacks import Written

__all__ = ["jobs_part", "run"]

log = logging.getLogger("elastic_hydra")

_ABOVE_THE_TASK = ("hydra.core.utils", __name__)
"""Modules whose frames, in the agent, say nothing about where a worker failed."""


def run(
    attempt: Attempt, task_function: TaskFunction, context: HydraContext, hydra_state: HydraState, argv: list[str]
) -> AttemptEnd:
    """Run a job; called in an agent process of its own, once per attempt.

    Args:
        attempt: at the job that is to be run.
        task_function: the user's, for the workers.
        context: Hydra's, of the sweep.
        hydra_state: Hydra's singletons, for processes that do not have them.
        argv: the launcher's `sys.argv`.
    """
    hydra_state.adopt()
    with met(attempt) as known:
        return _run(known, task_function, context, hydra_state, argv)


def _run(
    attempt: Attempt, task_function: TaskFunction, context: HydraContext, hydra_state: HydraState, argv: list[str]
) -> AttemptEnd:
    """Run a job whose nodes know where they meet; the arguments are those of `run`."""
    job, launched = attempt.job, _LaunchedJob(attempt)

    @functools.wraps(task_function)
    def task(task_config: DictConfig) -> Any:
        tell_apart(attempt.label)
        evaluate_once(task_config)
        if attempt.is_first_node:
            truncated_once(job.config)
        if isinstance(task_function, Program):
            return launched.run(task_function.entrypoint, list(task_function.arguments))
        level = job.launch.keys.logs.other_ranks_level
        journal = attempt.journal_path if attempt.is_first_node else None
        on_start = functools.partial(record_start, journal, job.num, attempt.number)
        arguments = [task_function, task_config, job.config, context, hydra_state, argv, level, on_start]
        return launched.run(run_task, arguments)

    if attempt.number:
        append_only(job.config)
    config = job.config
    if attempt.node is not None and attempt.node.rank > 0:
        config, context = for_other_node(job, attempt.node.rank), without_callbacks(context)
    job_dir_key, job_subdir_key = job.dir_keys
    job_return = run_job(
        task_function=task,
        config=config,
        job_dir_key=job_dir_key,
        job_subdir_key=job_subdir_key,
        hydra_context=context,
    )
    return _packed(job_return, launched, attempt.restarts)


def _packed(job_return: JobReturn, launched: _LaunchedJob, restarts: tuple[float, ...]) -> AttemptEnd:
    """Make the end of an attempt fit for the way to the launcher: exceptions and their frames need packing."""
    job_return = CompactReturn.of(job_return, main=context.current().main_names)
    if job_return.status is not JobStatus.FAILED:
        return AttemptEnd(job_return, restarts=restarts, imported=frozenset(launched.imported))
    raised = returned(job_return)
    raised.__traceback__ = jobs_part(raised.__traceback__)
    error = pack(raised, _known_to_hydra)
    job_return.return_value = None
    failure = launched.failure or agent_failure(error)
    return AttemptEnd(job_return, failure, restarts, agent_lost=failure.kind is Kind.preempted, error=error)


def jobs_part(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames around a job, but for the one of `run_job`: Hydra hides all that is above it."""
    kept = users_part(trace, _ABOVE_THE_TASK)
    if trace is None or trace is kept:
        return kept
    return TracebackType(kept, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)


def _known_to_hydra(frame: FrameType) -> dict[str, Any]:
    """Return the local variable by which Hydra 1.4 knows the frame of `run_job`, and that its job has failed."""
    return {"ret": JobReturn(status=JobStatus.FAILED)} if frame.f_code.co_name in ("run_job", "_run_job") else {}


class _LaunchedJob:
    """The workers of one attempt, from their launch to their value or exception, and what is recorded meanwhile.

    Args:
        attempt: its `restarts` grow when the workers are restarted.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.failure: Failure | None = None
        """Why the job has failed, if there is a verdict on that."""
        self.imported: set[str] = set()
        """Slow modules that the workers had to import."""

    def run(self, entrypoint: Callable[..., TaskResult] | str, arguments: list[Any]) -> Any:
        """Run the workers, and return what the job returns.

        Args:
            entrypoint: `run_task`, or a program.
            arguments: of the entry point.

        Raises:
            Exception: the worker's own that failed first, or a `JobError` where it has raised none.
        """
        job = self._attempt.job
        config = launch_config(
            self._attempt,
            on_programs=self._record_start,
            on_verdict=self._record_verdict,
            on_bindings=self._record_bindings,
            on_stacks=self._record_stacks,
        )
        results: dict[int, TaskResult | None] = {}
        raised: BaseException | None = None
        host = socket.gethostname()
        try:
            check_store_is_reached(self._attempt)
            results = launch_agent(config, entrypoint, arguments)
        except WorkersFailedError as error:
            if error.verdict is not None:
                self.failure = _without_restart(error.verdict, job)
            raised = _explained(error, job)
        except SignalException as error:
            self.failure = classify(Evidence(host, time.time(), signal_to_agent=error.sigval.name))
            raised = JobInterruptedError(self.failure.reason)
        except RendezvousError as error:
            self.failure = classify(Evidence(host, time.time(), rendezvous=facts_of(error)))
            raised = JobError(str(error))
        if raised is not None:
            raise raised  # not inside of `except`: Python would replace the chain that the worker's exception has
        of_tasks = {rank: result for rank, result in results.items() if result is not None}  # programs return nothing
        self.imported.update(name for result in of_tasks.values() for name in result.imported)
        values = {rank: result.value for rank, result in of_tasks.items()}
        return values.get(0) if job.launch.keys.return_values == "rank0" else values

    def _record_start(self) -> None:
        """Write into the journal that the workers run."""
        attempt = self._attempt
        if attempt.is_first_node:
            record_start(attempt.journal_path, attempt.job.num, attempt.number)

    def _record_verdict(self, verdict: Verdict) -> None:
        """Write a decision about a failure into the journal, and count the restart if it follows."""
        attempt, decision, failure = self._attempt, verdict.decision, verdict.failure
        moment = time.monotonic()
        if decision.again and decision.counts:
            attempt.restarts = (*attempt.restarts, moment)
        if not attempt.is_first_node:
            return  # the nodes follow one verdict, and the first one records it
        worker = events.FailedWorker(
            kind=failure.kind.value,
            reason=failure.reason,
            rank=failure.rank,
            host=failure.host,
            exitcode=failure.exitcode,
            signal=failure.signal,
            names=failure.names,
            log_dir=failure.log_dir,
        )
        event = events.WorkersFailed(
            num=attempt.job.num,
            attempt=attempt.number,
            monotonic=round(moment, 3),
            again=decision.again,
            counts=decision.counts,
            reason=decision.reason,
            after=decision.after,
            failure=worker,
        )
        self._record(event, "failure")

    def _record_bindings(self, bindings: Sequence[Binding]) -> None:
        """Write the plan of where the workers run beside their logs, and into the journal."""
        attempt, plain = self._attempt, [binding.to_dict() for binding in bindings]
        name = "bindings.json" if attempt.node is None else f"bindings.node{attempt.node.rank}.json"
        (attempt.job.log_dir / name).write_text(json.dumps(plain, indent=1) + "\n")
        event = events.WorkersBound(num=attempt.job.num, attempt=attempt.number, workers=plain)
        self._record(event, "plan of bindings")

    def _record_stacks(self, written: Mapping[int, Written]) -> None:
        """Write into the journal where the stacks are: who has asked for them finds them by that."""
        attempt = self._attempt
        workers = [{"rank": rank, "file": stacks.path, "start": stacks.start} for rank, stacks in written.items()]
        event = events.StacksWritten(num=attempt.job.num, attempt=attempt.number, workers=workers)
        if attempt.node is not None:
            event.node, event.nodes = attempt.node.rank, attempt.job.launch.nodes.most
        self._record(event, "answer")

    def _record(self, event: events.Event, what: str) -> None:
        """Write an event into the journal; when it cannot be written, the job goes on all the same."""
        path = self._attempt.journal_path
        if path is None:
            return
        try:
            writer.append(path, event)
        except OSError as error:
            num = self._attempt.job.num
            log.warning("#%s: %s cannot be written (%s): this %s is not in it", num, path, error, what)


def _without_restart(verdict: Verdict, job: Job) -> Failure:
    """Return the failure, with the reason why no restart followed, where one might have."""
    return replace(verdict.failure, not_restarted=verdict.decision.reason if job.launch.keys.retry.max_restarts else "")


def _explained(error: WorkersFailedError, job: Job) -> BaseException:
    """Return the failed worker's own exception, or a `JobError` where there is none, and say where it happened."""
    rank, failure = error.get_first_failure()
    folder = Path(failure.error_file).parent if os.path.isfile(failure.error_file) else job.log_dir
    logs = f"; its logs: {folder}" if has_files(str(folder)) else ""
    host = f" on host {socket.gethostname()}" if job.launch.several_nodes else ""
    where = f"rank {rank}{host}{logs}"
    original = error.__cause__
    if original is None and error.verdict is not None:
        stacks = error.verdict.failure.stacks
        see = f"; stacks: {stacks[0]}" if stacks else ""
        return JobError(f"{error.verdict.failure.reason}{see}{logs}")
    if original is None:
        message = failure.message if isinstance(failure.message, str) else str(failure.message.get("message"))
        return JobError(f"{message}: {where}")
    if not isinstance(original, Exception):
        # A KeyboardInterrupt in a worker ends this job; if the launcher raised it, it would end the sweep.
        interrupted = JobError(f"{type(original).__name__} in a worker: {where}")
        interrupted.__cause__ = original
        return interrupted
    cpython.add_note(original, where)  # on Python 3.10 only the launcher's log line says it
    return original
