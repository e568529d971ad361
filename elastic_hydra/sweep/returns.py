"""What Hydra's sweeper gets for a job: always a `JobReturn`, whatever became of the job or its agent."""

from __future__ import annotations

import os
import signal

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.launcher.outcome import unpack
from elastic_hydra.launcher.processes import Process
from elastic_hydra.sweep.compose import task_config
from elastic_hydra.sweep.job import Job, JobError, JobInterruptedError
from elastic_hydra.sweep.journal import Recorded

__all__ = ["agent_lost", "failed", "nothing", "of", "reason", "recorded", "state"]


def agent_lost(process: Process) -> str:
    """Say how an agent was lost; nothing when it has handed over what its job returned, or why it could not run it."""
    if process.exitcode == 0 or process.outcome(errors_only=True) is not None:
        return ""
    code = process.exitcode or 0
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{process.refused or how} (pid {process.pid})"


def of(job: Job, process: Process) -> JobReturn:
    """Take what a job's agent has handed over, or say what became of the agent.

    Args:
        job: the job.
        process: its agent, which has ended.
    """
    try:
        result = process.outcome()
    except Exception as error:
        return failed(job, JobError(f"the result of job #{job.num} cannot be read: {type(error).__name__}: {error}"))
    if result is not None and result.error is not None:
        return failed(job, unpack(result.error))
    if process.exitcode == 0 and result is not None:
        restored: JobReturn = result.value.restored()
        return restored
    how = agent_lost(process) or "it ended without a result"
    return failed(job, JobError(f"the agent of job #{job.num} was lost: {how}; the workers' logs: {job.log_dir}"))


def recorded(job: Job, record: Recorded, mode: str) -> JobReturn:
    """Return what an earlier launcher has recorded of a job that is not run again.

    Args:
        job: the job.
        record: its record.
        mode: `hydra.launcher.resume`.
    """
    if record.state == "finished":
        job_return = _new(job, JobStatus.COMPLETED)
        job_return.return_value = record.value
        return job_return
    if record.state == "failed":
        return failed(job, JobError(f"failed before: {record.reason}"))
    return failed(job, JobError(f"not run: it was interrupted, and hydra.launcher.resume={mode} runs others only"))


def nothing(job: Job) -> JobReturn:
    """Make the return of a job that was only planned."""
    return _new(job, JobStatus.COMPLETED)


def failed(job: Job, error: BaseException) -> JobReturn:
    """Make the return of a job that has none of its own."""
    job_return = _new(job, JobStatus.FAILED)
    job_return.return_value = error
    return job_return


def state(job_return: JobReturn) -> str:
    """Name how a job ended, as the journal does."""
    if job_return.status is JobStatus.COMPLETED:
        return "finished"
    return "interrupted" if isinstance(job_return._return_value, JobInterruptedError) else "failed"


def reason(error: BaseException) -> str:
    """Say in one line why a job failed, where, and where to read on."""
    lines = str(error).strip().splitlines()
    name = "" if isinstance(error, JobError) else type(error).__name__
    text = ": ".join(part for part in (name, lines[0] if lines else "") if part)
    return text + "".join(f" [{note}]" for note in getattr(error, "__notes__", ()))


def _new(job: Job, status: JobStatus) -> JobReturn:
    overrides = OmegaConf.to_container(job.config.hydra.overrides.task)
    return JobReturn(
        overrides=[str(override) for override in overrides] if isinstance(overrides, list) else [],
        cfg=task_config(job.config),
        hydra_cfg=OmegaConf.masked_copy(job.config, ["hydra"]),
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=status,
    )
