"""What keeps jobs from being started, perhaps for a moment: no room on a disk, a journal that cannot be written."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.journal import writer
from elastic_hydra.journal.files import free
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweep.job import Job

__all__ = ["INTERVAL", "Obstacle"]

log = logging.getLogger("elastic_hydra")

INTERVAL = 0.5
"""Seconds between two looks at whether it is over."""
_LEAST = 64 << 10
"""Bytes that a job needs on disk before it has done anything: its directories, configuration and logs."""


class Obstacle:
    """Sees whether something is in the way of the next job, and for how long it has been."""

    def __init__(self) -> None:
        self.reason = ""
        """What is in the way; empty: nothing."""
        self._since = 0.0
        self._is_final = False

    def look(self, record: Journal, waiting: Sequence[Job]) -> bool:
        """Whether something is in the way of the first job that waits."""
        is_well = record.flush()  # which also sees whether the journal is still there
        reason = record.problem if not is_well else _without_room(waiting[0]) if waiting else ""
        if reason and not self.reason:
            self._since = time.monotonic()
            if not record.problem:
                log.error("%s: no further job is started until there is", reason)
        self.reason, self._is_final = reason, record.is_gone
        return bool(reason)

    @property
    def is_lasting(self) -> bool:
        """Whether it has been in the way for so long, or is such, that it is no use to wait."""
        return bool(self.reason) and (self._is_final or time.monotonic() - self._since > writer.PATIENCE)


def _without_room(job: Job) -> str:
    """Say where a job has not even the room to begin; nothing when it has."""
    for path in (job.output_dir, job.log_dir):
        try:
            there = free(path)
        except OSError:
            continue  # what is wrong there the job will say
        if there < _LEAST:
            return f"{path}: a job needs {bytes_in_words(_LEAST)} at least, and {bytes_in_words(there)} are free"
    return ""
