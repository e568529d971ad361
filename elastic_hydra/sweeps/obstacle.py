"""What keeps jobs from being started, perhaps for a moment: no room on a disk, a journal that cannot be written."""

from __future__ import annotations

import logging
import time

from elastic_hydra import timeouts
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.jobs.job import Job
from elastic_hydra.journal.events import StartsHeldUp
from elastic_hydra.journal.files import free
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.steps import Blocked

__all__ = ["Obstacle"]

log = logging.getLogger("elastic_hydra")

_LEAST = 64 << 10
"""Bytes that a job needs on disk before it has done anything: its directories, configuration and logs."""


class Obstacle:
    """Sees whether something is in the way of the next job, and for how long it has been."""

    def __init__(self) -> None:
        self.reason = ""
        """What is in the way; empty: nothing."""
        self._told = ""
        """What the journal says is in the way."""
        self._since = 0.0
        self._is_final = False

    def look(self, record: Journal, first: Job | None) -> None:
        """Look whether something is in the way of the next job, or is no more.

        Args:
            record: of the sweep.
            first: the first job that waits; None: none does.
        """
        is_well = record.flush()  # `flush` also notices when the journal was removed
        reason = record.problem if not is_well else _without_room(first) if first is not None else ""
        if reason and not self.reason:
            self._since = time.monotonic()
            if not record.problem:
                log.error("%s: no further job is started until there is", reason)
        told = "" if record.problem else reason
        if bool(told) != bool(self._told):
            self._told = told
            record.write(StartsHeldUp(reason=told))
        self.reason, self._is_final = reason, record.is_gone

    @property
    def blocked(self) -> Blocked | None:
        """What was in the way at the last look; lasting when it was there for long, or is such that it stays."""
        if not self.reason:
            return None
        return Blocked(self.reason, self._is_final or time.monotonic() - self._since > timeouts.JOURNAL)


def _without_room(job: Job) -> str:
    """Say where a job has not even the room to begin; nothing when it has."""
    for path in (job.output_dir, job.log_dir):
        try:
            room = free(path)
        except OSError:
            continue  # the job itself will report what is wrong with the folder
        if room < _LEAST:
            return f"{path}: a job needs {bytes_in_words(_LEAST)} at least, and {bytes_in_words(room)} are free"
    return ""
