"""How a job ended, and what Hydra's sweeper gets for it: always a `JobReturn`, whatever became of the job's agent."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure, signal_name
from elastic_hydra.jobs.attempt_end import AttemptEnd, agent_failure, failure_here
from elastic_hydra.jobs.compact import CompactReturn
from elastic_hydra.jobs.errors import JobError, JobInterruptedError
from elastic_hydra.jobs.job import Job
from elastic_hydra.journal.reader import Recorded
from elastic_hydra.overview.log_files import has_files
from elastic_hydra.supervisor.client import Process
from elastic_hydra.supervisor.packed_error import unpack
from elastic_hydra.supervisor.pickles import EVERYTHING
from elastic_hydra.sweeps.compose import task_config
from elastic_hydra.sweeps.stop import Order

__all__ = ["failed", "nothing", "of", "recorded"]

_STOPPED = (Kind.preempted, Kind.agent, Kind.peer)
"""Kinds of failures that stopping a job brings about."""


def of(
    job: Job, process: Process, stopped_by: Order | None = None, overdue: bool = False, host: str = ""
) -> AttemptEnd:
    """Take what a job's agent has handed over, or say what became of the agent.

    Args:
        job: the job.
        process: its agent, which has ended.
        stopped_by: what has told the job to stop, if something has.
        overdue: whether the agent was killed because it did not see to the job's time limit.
        host: on which the agent has run, where the job has several; empty: there is no need to say it.
    """
    end = _of(job, process, overdue, host)
    if end.failure is None or stopped_by is None:
        return end
    if end.failure.kind in _STOPPED or end.failure.signal == stopped_by.number.name:
        return _stopped(job, stopped_by)
    return end  # the job had failed before it was told to stop


def _of(job: Job, process: Process, overdue: bool, host: str) -> AttemptEnd:
    try:
        outcome = process.outcome()
    except Exception as error:  # unpickling runs code of the user's classes, which may raise anything
        reason = f"its result cannot be read: {type(error).__name__}: {error}"
        return _failed(job, JobError(reason), failure_here(Kind.agent, reason))
    if overdue:
        limit = job.launch.keys.watch.time_limit
        reason = f"its agent hung, and did not end the job after watch.time_limit={limit:g} s"
        return _failed(job, JobError(_with_logs(reason, job)), failure_here(Kind.timeout, reason))
    if outcome is not None and outcome.error is not None:
        raised = unpack(outcome.error)
        if not isinstance(raised, Exception):  # a signal has interrupted the agent before or after the job
            return _stopped(job, Order(signal.SIGINT), lost=True)
        return _failed(job, raised, agent_failure(outcome.error))
    if process.exitcode == 0 and outcome is not None:
        end: AttemptEnd = outcome.value
        return end.unpacked()
    return _lost(job, process, host)


def _failed(job: Job, error: BaseException, failure: Failure, lost: bool = False) -> AttemptEnd:
    return AttemptEnd(failed(job, error), failure, agent_lost=lost)


def _lost(job: Job, process: Process, host: str) -> AttemptEnd:
    code = process.exitcode or 0
    name = signal_name(code)
    how = f"it was killed by {name}" if name else f"it ended with exit code {code}"
    if name and not process.fate and name in job.launch.keys.signals_to_handle:
        return _stopped(job, Order(signal.Signals[name]), lost=True)  # the signal came before the agent could handle it
    what = process.refused or process.fate or how + (" without a result" if not code else "")
    where = f" on host {host}" if host else ""
    reason = f"its agent{where} (pid {process.pid}) was lost: {what}"
    return _failed(job, JobError(_with_logs(reason, job)), failure_here(Kind.agent, reason), lost=True)


def not_started(job: Job, host: str) -> AttemptEnd:
    """Make the end of an attempt one of whose nodes, on a host, was lost before its agent was started."""
    reason = f"host {host} was lost before the job's agent on it was started"
    return _failed(job, JobError(_with_logs(reason, job)), failure_here(Kind.agent, reason), lost=True)


def _stopped(job: Job, order: Order, lost: bool = False) -> AttemptEnd:
    who = f"host {os.uname().nodename}" if job.launch.nodes.most > 1 else "the job"
    failure = failure_here(Kind.preempted, f"{who} was told to stop by {order}", order.number.name)
    return replace(_failed(job, JobInterruptedError(failure.reason), failure, lost), by_hand=bool(order.by))


def _with_logs(reason: str, job: Job) -> str:
    logs = f"; the workers' logs: {job.log_dir}" if has_files(str(job.log_dir)) else ""
    return f"job #{job.num}: {reason}{logs}"


def recorded(job: Job, record: Recorded, value: Any, mode: str) -> JobReturn:
    """Return what an earlier launcher has recorded of a job that is not run again.

    Args:
        job: the job.
        record: its record.
        value: what it has returned.
        mode: `hydra.launcher.resume`.
    """
    if record.state == "finished":
        job_return = _new(job, JobStatus.COMPLETED)
        job_return.return_value = value
        return job_return
    if record.state == "failed":
        return failed(job, JobError(f"failed before: {record.reason}"))
    return failed(job, JobError(f"not run: it was {record.state}, and hydra.launcher.resume={mode} runs others only"))


def nothing(job: Job) -> JobReturn:
    """Make the return of a job that was only planned."""
    return _new(job, JobStatus.COMPLETED)


def failed(job: Job, error: BaseException) -> JobReturn:
    """Make the return of a job that has none of its own."""
    job_return = _new(job, JobStatus.FAILED)
    job_return.return_value = error
    return job_return


def _new(job: Job, status: JobStatus) -> JobReturn:
    overrides = OmegaConf.to_container(job.config.hydra.overrides.task)
    job_return = JobReturn(
        overrides=[str(override) for override in overrides] if isinstance(overrides, list) else [],
        cfg=task_config(job.config),
        hydra_cfg=OmegaConf.masked_copy(job.config, ["hydra"]),
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=status,
    )
    return CompactReturn.of(job_return, main=EVERYTHING)
