"""How long a sweep will take, judged by the jobs that have finished."""

from __future__ import annotations

import itertools

from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview

__all__ = ["TimeLeft"]

_RECENT = 100
"""Jobs of which the average is taken."""


class TimeLeft:
    """How much longer running jobs and the whole sweep will take, if they take as long as others did.

    Args:
        sweep: a sweep that runs.
        now: the time, in seconds since the epoch.
    """

    def __init__(self, sweep: SweepOverview, now: float) -> None:
        self._sweep = sweep
        self._now = now
        finished = (job for job in reversed(sweep.jobs.values()) if job.state == "finished")
        took = [job.seconds(now) for job in itertools.islice(finished, _RECENT)]
        self.usual: float | None = sum(took) / len(took) if took else None
        """Seconds that a job takes, on average of those that have finished last; None: none has finished yet."""

    def of_job(self, job: JobOverview) -> float | None:
        """Return the seconds that a running job has still to go; None: nobody knows, or it takes longer than others."""
        if self.usual is None or job.state != "running":
            return None
        left = self.usual - job.seconds(self._now)
        return left if left > 0 else None

    def of_sweep(self) -> float | None:
        """Return the seconds that the sweep has still to go, with as many jobs side by side as now; None: unknown."""
        running = self._sweep.running()
        if self.usual is None or not running:
            return None
        left = [self.of_job(job) or 0.0 for job in running]
        waiting = self._sweep.waiting
        return max(max(left), (sum(left) + waiting * self.usual) / len(running))
