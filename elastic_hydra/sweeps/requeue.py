"""`hydra.launcher.requeue=auto`: a launcher in a batch job of Slurm has it start again, and goes on where it was.

::

    sbatch --signal=B:USR1@60 ──▶ launcher ──▶ jobs: checkpoints
                                     │ scontrol requeue
                                     ▼
                                  SIGTERM … the same job, SLURM_RESTART_COUNT=1 ──▶ launcher: resume=interrupted

What must never happen: a job that was cancelled comes back, or one whose jobs never get further comes back for ever.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import reader
from elastic_hydra.journal.events import AttemptStarted, JobEnded, RequeueAsked
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.reader import Record
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.slurm_job import SlurmJob, fate_of
from elastic_hydra.sweeps.stop import Order

__all__ = ["Requeue"]

log = logging.getLogger("elastic_hydra")

_KEY = "hydra.launcher.requeue=auto"
_NO_PROGRESS = (
    "no job has finished or written a file into its directory in its last {} lives. See in their logs what keeps them "
    "from it; hydra.launcher.requeue_limit says after how many lives that is an error, and null that it never is"
)
_OURS = ("logs", "bindings.json")
"""What a launcher, an agent or Hydra writes into a job's directory, besides hidden files and `*.log`."""


class Requeue:
    """Has the Slurm job of this launcher start again when it is told to stop before its sweep is done.

    Args:
        settings: the sweep's `hydra.launcher`.
        config: of the sweep or the run.
        key: that names the sweep's directory: `hydra.sweep.dir` or `hydra.run.dir`.

    Raises:
        ConfigError: it could not go on in its next life; the text says what to do.
    """

    def __init__(self, settings: DictConfig, config: DictConfig, key: str) -> None:
        job = SlurmJob.of(os.environ) if settings.requeue == "auto" else None
        self.job = job
        """The job; None: nothing is put back."""
        self._limit = settings.requeue_limit
        self._idle = 0
        self._journal_begin = (0, 0.0)
        if job is None:
            return
        if shutil.which("scontrol") is None:
            raise ConfigError(f"{_KEY}: scontrol is not on PATH, by which {job} is put back; add its folder to PATH")
        raw = _raw(config, key)
        if "${now:" in raw:
            raise ConfigError(
                f"{_KEY}: {key}={raw} is another directory when {job} starts again, and the sweep would begin anew: "
                f"set it, as {key}=sweeps/$SLURM_JOB_ID"
            )

    def resume_mode(self, configured: str, record: Record) -> str:
        """Return what `hydra.launcher.resume` is to be: an earlier life has done already what the user asks for.

        Args:
            configured: what it is set to.
            record: of the sweep's directory.
        """
        if self.job is None or record.slurm_job != self.job.id or not self.job.restarts:
            return configured
        self._idle = record.idle_lives
        return "interrupted"

    def begin(self, journal: Journal) -> None:
        """Note where this launcher's part of the journal begins, and when, by the clock of the file system."""
        self._journal_begin = (journal.position(), os.stat(journal.path).st_mtime)

    def ask(self, order: Order, journal: Journal, given_up: str) -> None:
        """Put the job back into the queue, if that is to be done, and wait to be told to end.

        Args:
            order: what has told the launcher to stop.
            journal: of the sweep; the jobs have ended.
            given_up: why no further job would start; empty: they would.
        """
        job = self.job
        if job is None or not job.is_first_task or given_up:
            return
        try:
            fate = fate_of(job, order, job.look())
            if not fate.requeue:
                if fate.reason:
                    log.warning("%s: %s is not put back into the queue: %s", _KEY, job, fate.reason)
                return
            idle = self._idle_lives(journal)
            if self._limit is not None and idle >= self._limit:
                log.error("%s: %s is not put back into the queue: %s", _KEY, job, _NO_PROGRESS.format(idle))
                return
            log.warning("%s: %s is put back into the queue, since %s", _KEY, job, fate.reason)
            journal.write(RequeueAsked(slurm_job=job.id, idle=idle, reason=fate.reason), durable=True)
            job.requeue()
        except OSError as error:
            log.error("%s: %s is not put back into the queue: %s", _KEY, job, error)

    def _idle_lives(self, journal: Journal) -> int:
        """Return in how many lives in a row no job has made progress, this one included; 0: one has."""
        start, since = self._journal_begin
        events = [event for _, event in Lines(journal.path, start)]
        if any(isinstance(event, JobEnded) and event.state == "finished" for event in events):
            return 0
        ran = {event.num for event in events if isinstance(event, AttemptStarted)}
        record = reader.read(journal.path)
        folders = [Path(record[num].dir) for num in ran if num in record]
        return 0 if _has_newer(folders, since) else self._idle + 1


def _raw(config: DictConfig, key: str) -> str:
    """Return a key's value as it stands there, not resolved."""
    *path, name = key.split(".")
    node = OmegaConf.select(config, ".".join(path))
    return str(OmegaConf.to_container(node, resolve=False)[name])  # type: ignore[index,call-overload]


def _has_newer(folders: Iterable[Path], since: float) -> bool:
    """Whether jobs have written files of their own into their directories.

    Args:
        folders: the jobs' directories.
        since: a modification time, in seconds since the epoch.
    """
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names[:] = [name for name in names if not name.startswith(".") and name not in _OURS]
            for name in files:
                if name.startswith(".") or name.endswith(".log") or name in _OURS:
                    continue
                if _modified(Path(parent, name)) > since:
                    return True
    return False


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is gone
        return 0.0
