"""A sweep and its jobs as plain values, for other programs."""

from __future__ import annotations

from typing import Any

from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.time_left import TimeLeft

__all__ = ["sweep_as_json"]


def sweep_as_json(sweep: SweepOverview, now: float, *, failed: bool = False) -> dict[str, Any]:
    """Return what there is to know of a sweep. Times are in seconds since the epoch, durations in seconds.

    Args:
        sweep: the sweep.
        now: the time, in seconds since the epoch.
        failed: whether only jobs are listed that have run and not finished.
    """
    began, left = sweep.began, TimeLeft(sweep, now)
    jobs = sweep.failures() if failed else sweep.jobs.values()
    return {
        "dir": sweep.folder,
        "state": sweep.state,
        "task": began.task if began is not None else None,
        "command": list(sweep.command),
        "host": sweep.host or None,
        "pid": began.pid if began is not None else None,
        "began": sweep.first_began or None,
        "last_event": sweep.last_event or None,
        "stopped": sweep.stopped.reason if sweep.stopped is not None else None,
        "seconds_left": left.of_sweep() if sweep.state == "running" else None,
        "counts": sweep.counts(),
        "pending_hosts": list(sweep.hosts.pending),
        "jobs": [_job_as_json(sweep, job, left, now) for job in jobs],
    }


def _job_as_json(sweep: SweepOverview, job: JobOverview, left: TimeLeft, now: float) -> dict[str, Any]:
    state = sweep.state_of(job)
    return {
        "num": job.num,
        "state": state,
        "overrides": list(job.overrides),
        "differing": sweep.differing(job),
        "dir": job.dir,
        "started": job.started,
        "ended": job.ended,
        "seconds": round(sweep.seconds(job, now), 3),
        "seconds_left": left.of_job(job) if state == "running" else None,
        "attempt": job.attempt,
        "restarts": job.restarts,
        "host": job.host,
        "gpus": list(job.gpus),
        "cpus": list(job.cpus),
        "kind": job.kind,
        "reason": job.reason,
        "value": job.value,
    }
