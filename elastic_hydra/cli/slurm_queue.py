"""What Slurm says of the job that a launcher is, or was: journals cannot tell what waits in a queue."""

from __future__ import annotations

from elastic_hydra import timeouts
from elastic_hydra.cli.errors import UserError
from elastic_hydra.hosts.slurm_commands import answer_of
from elastic_hydra.overview.sweep import SweepOverview

__all__ = ["cancel", "job_in_queue", "queue_text"]

_MAY_WAIT = ("submitted", "stopped", "died")
"""States of sweeps whose launcher may wait in the queue."""


def job_in_queue(sweep: SweepOverview) -> str:
    """Return the Slurm job that waits to run a sweep's launcher, for the first time or again; empty: none does.

    Args:
        sweep: the sweep.
    """
    job = _job_of(sweep)
    return job if job and _asked(job) else ""


def queue_text(sweep: SweepOverview) -> str:
    """Say what has become of the Slurm job of a launcher that does not run; empty: there is nothing to say."""
    job = _job_of(sweep)
    said = _asked(job) if job else None
    if said:
        return f"its launcher is Slurm job {job}: {said}"
    if said is None or sweep.state != "submitted":
        return ""
    return f"its launcher, Slurm job {job}, has ended and not begun: `elastic-hydra logs --launcher` shows what it said"


def cancel(job: str) -> None:
    """Cancel a Slurm job.

    Raises:
        UserError: it cannot be cancelled.
    """
    code, said = _said(["scancel", job])
    if code != 0:
        raise UserError(
            f"Slurm job {job} cannot be cancelled ({said}): say `scancel {job}` where Slurm's commands work"
        )


def _job_of(sweep: SweepOverview) -> str:
    last = sweep.last_launcher
    return last.slurm_job if last is not None and sweep.state in _MAY_WAIT else ""


def _asked(job: str) -> str | None:
    """Return the state of a job that is in the queue, and why it waits; empty: it is not; None: nobody can say it."""
    code, said = _said(["squeue", "--noheader", f"--jobs={job}", "--format=%T (%r)"])
    if code != 0:
        return "" if "Invalid job id" in said else None
    return said


def _said(argv: list[str]) -> tuple[int, str]:
    try:
        answer = answer_of(argv, timeout=timeouts.SLURM_LOOK)
    except OSError as error:
        return 1, str(error)
    return answer.code, " ".join(answer.said.split())
