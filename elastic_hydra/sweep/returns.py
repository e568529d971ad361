"""How a job ended, and what Hydra's sweeper gets for it: always a `JobReturn`, whatever became of the job's agent."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure, signal_name
from elastic_hydra.journal.events import State
from elastic_hydra.journal.reader import Recorded
from elastic_hydra.supervisor.client import Process
from elastic_hydra.supervisor.packed_error import unpack
from elastic_hydra.supervisor.pickles import EVERYTHING
from elastic_hydra.supervisor.process_limits import with_limit
from elastic_hydra.sweep.agent_process import FinishedJob
from elastic_hydra.sweep.compact import CompactReturn
from elastic_hydra.sweep.compose import task_config
from elastic_hydra.sweep.errors import JobError, JobInterruptedError
from elastic_hydra.sweep.job import Job

__all__ = ["End", "failed", "nothing", "of", "recorded"]

_BY_HAND = ("SIGINT", "SIGQUIT", "SIGHUP")
"""Signals that a person sends, or that a terminal sends when it is closed; others come from who runs the machine."""
_STOPPED = (Kind.preempted, Kind.agent, Kind.peer)
"""Kinds of failures that stopping a job brings about."""


@dataclass
class End:
    """How an attempt at a job ended."""

    job_return: JobReturn
    state: State = "finished"
    """As in the journal."""
    failure: Failure | None = None
    """Why, if it did not finish."""
    restarts: tuple[float, ...] | None = None
    """When agents have restarted its workers, on the monotonic clock; None: the last agent could not say."""
    agent_lost: bool = False
    """Whether its agent was lost, or that of one of its nodes was told to stop, so that another attempt may help."""
    imported: frozenset[str] = frozenset()
    """Slow modules that its workers had to import."""


def of(job: Job, process: Process, stopped_by: signal.Signals | None = None, overdue: bool = False) -> End:
    """Take what a job's agent has handed over, or say what became of the agent.

    Args:
        job: the job.
        process: its agent, which has ended.
        stopped_by: the signal with which all jobs were stopped, if they were.
        overdue: whether the agent was killed because it did not see to the job's time limit.
    """
    end = _of(job, process, overdue)
    if end.failure is None or stopped_by is None:
        return end
    if end.failure.kind in _STOPPED or end.failure.signal == stopped_by.name:
        return _stopped(job, stopped_by.name)
    return end  # it had failed before


def _of(job: Job, process: Process, overdue: bool) -> End:
    try:
        outcome = process.outcome()
    except Exception as error:  # unpickling the user's objects may raise anything
        reason = f"its result cannot be read: {type(error).__name__}: {error}"
        return _failed(job, JobError(reason), _failure(Kind.agent, reason))
    if overdue:
        limit = job.launch.keys.watch.time_limit
        reason = f"its agent hung, and did not end the job after watch.time_limit={limit:g} s"
        return _failed(job, JobError(_with_logs(reason, job)), _failure(Kind.timeout, reason))
    if outcome is not None and outcome.error is not None:
        raised = unpack(outcome.error)
        if not isinstance(raised, Exception):  # a signal has met the agent outside of the job itself
            return _stopped(job, "SIGINT", lost=True)
        return _failed(job, raised, None)
    if process.exitcode == 0 and outcome is not None:
        finished: FinishedJob = outcome.value
        job_return = finished.restored()
        if job_return.status is JobStatus.COMPLETED:
            return End(job_return, restarts=finished.restarts, imported=finished.imported)
        return replace(_failed(job, job_return._return_value, finished.failure, job_return), restarts=finished.restarts)
    return _lost(job, process)


def _failed(job: Job, error: BaseException, failure: Failure | None, job_return: JobReturn | None = None) -> End:
    if failure is None:
        first = next(iter(str(error).strip().splitlines()), "")
        failure = _failure(Kind.exception, f"its agent raised {type(error).__name__}: {with_limit(first)}".rstrip(": "))
    state = state_of(failure)
    return End(job_return or failed(job, error), state, failure, agent_lost=failure.kind is Kind.preempted)


def _lost(job: Job, process: Process) -> End:
    code = process.exitcode or 0
    name = signal_name(code)
    how = f"it was killed by {name}" if name else f"it ended with exit code {code}"
    if name and not process.fate and name in job.launch.keys.signals_to_handle:
        return _stopped(job, name, lost=True)  # before it could stop its workers itself
    what = process.refused or process.fate or how + (" without a result" if not code else "")
    reason = f"its agent (pid {process.pid}) was lost: {what}"
    failure = _failure(Kind.agent, reason)
    return End(failed(job, JobError(_with_logs(reason, job))), "failed", failure, agent_lost=True)


def _stopped(job: Job, name: str, lost: bool = False) -> End:
    who = f"host {os.uname().nodename}" if job.launch.nodes.most > 1 else "the job"
    failure = _failure(Kind.preempted, f"{who} was told to stop by {name}", name)
    return End(failed(job, JobInterruptedError(failure.reason)), state_of(failure), failure, agent_lost=lost)


def state_of(failure: Failure) -> State:
    """Name how a job that did not finish has ended, as the journal does."""
    if failure.kind is not Kind.preempted:
        return "failed"
    return "interrupted" if failure.signal in _BY_HAND else "preempted"


def _failure(kind: Kind, reason: str, name: str = "") -> Failure:
    return Failure(kind, reason, os.uname().nodename, time.time(), signal=name)


def _with_logs(reason: str, job: Job) -> str:
    return f"job #{job.num}: {reason}; the workers' logs: {job.log_dir}"


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
    made = JobReturn(
        overrides=[str(override) for override in overrides] if isinstance(overrides, list) else [],
        cfg=task_config(job.config),
        hydra_cfg=OmegaConf.masked_copy(job.config, ["hydra"]),
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=status,
    )
    return CompactReturn.of(made, main=EVERYTHING)
