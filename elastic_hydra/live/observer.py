"""Takes pictures of a sweep from its journal and from what its workers have written, as the launcher runs it."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

from elastic_hydra.live.picture import MOST_FAILURES, Failure, Picture, Running
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.hosts import pending_in_words
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.last_line import last_line
from elastic_hydra.overview.words import duration

__all__ = ["Observer"]

_OF_LOGGING = re.compile(r"^\[[^]]*\]\[[^]]*\]\[[A-Z]+\] - ")
"""What Hydra's log lines begin with: time, logger and level."""


class Observer:
    """Follows the journal of a sweep.

    Args:
        journal: the path of the journal.
        outlook: says how many jobs the sweep has, and how long it will take, in words: empty if nobody knows.
    """

    def __init__(self, journal: Path, outlook: Callable[[], tuple[int, str]]) -> None:
        self._follower = Follower(journal)
        self._outlook = outlook

    def picture(self, most: int) -> Picture:
        """Take a picture.

        Args:
            most: how many running jobs can be shown: what the others have written is not read.
        """
        with contextlib.suppress(OSError):  # a file system that does not answer now: what is known is shown
            self._follower.read()
        sweep, now = self._follower.overview, time.time()
        running, failures = sweep.running(), sweep.failures()
        total, left = self._outlook()
        return Picture(
            total=total,
            finished=sweep.counts().get("finished", 0),
            failed=len(failures),
            running=[self._running(job, now, index < most) for index, job in enumerate(running)],
            failures=[
                Failure(job.num, self._what(job), sweep.state_of(job), job.reason) for job in failures[:MOST_FAILURES]
            ],
            left=left,
            pending=pending_in_words(sweep.hosts.pending, now) if sweep.hosts.pending else "",
        )

    def _running(self, job: JobOverview, now: float, shown: bool) -> Running:
        note = ""
        if job.not_before > now:
            note = f"workers start again in {duration(job.not_before - now)}: {job.reason}"
        elif shown:
            note = _OF_LOGGING.sub("", last_line(job.log_dir))
        return Running(job.num, self._what(job) if shown else "", job.seconds(now), job.restarts, note)

    def _what(self, job: JobOverview) -> str:
        where = [f"{job.host}:"] if job.host else []
        return " ".join([*where, *self._follower.overview.differing(job)])
