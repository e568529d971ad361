"""The claim of a launcher on its sweep's directory, against launchers on other hosts."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import subprocess
import uuid
from pathlib import Path

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import host_record, owner
from elastic_hydra.supervisor import entry
from elastic_hydra.sweeps import lease_keeper
from elastic_hydra.sweeps.slurm_job import SlurmJob

__all__ = ["await_other_host", "await_other_hosts", "keep"]

log = logging.getLogger("elastic_hydra")


def await_other_host(journal: Path, key: str, job: SlurmJob | None) -> None:
    """Wait until a launcher on another host that may still be at work in a sweep's directory is gone.

    Args:
        journal: of the sweep.
        key: that names the directory, for messages.
        job: that this process runs in; None: in none.

    Raises:
        ConfigError: the other one is at work.
    """
    job = job or SlurmJob("", 0)
    try:
        other = owner.await_end(journal, job.id, job.restarts, log.warning)
    except OSError as error:
        raise ConfigError(f"{key}={journal.parent}: it cannot be read ({error}). Correct that") from error
    if other is not None:
        what = f"{other} is at work there. Wait for it, stop it, or choose another directory"
        raise ConfigError(f"{key}={journal.parent}: {what}")


def await_other_hosts(journal: Path, key: str) -> None:
    """Wait until nothing runs on other hosts any more that a launcher which is gone had started for a sweep.

    Args:
        journal: of the sweep. This process holds its lock.
        key: that names the directory, for messages.

    Raises:
        ConfigError: what there is to know of it cannot be read.
    """
    try:
        host_record.await_end(journal, log.warning)
    except OSError as error:
        raise ConfigError(f"{key}={journal.parent}: it cannot be read ({error}). Correct that") from error


def keep(journal: Path, key: str, job: SlurmJob | None, shutdown_timeout: float) -> None:
    """Claim the directory of a journal until this process ends, and end this process if another one has claimed it.

    Args:
        journal: of the sweep.
        key: that names the directory, for messages.
        job: that this process runs in. Slurm may start that again elsewhere, whatever becomes of this process; so it
            ends also if its claim cannot be renewed. None: in none; it is for people to start another one.
        shutdown_timeout: seconds that workers may have between SIGTERM and SIGKILL.

    Raises:
        ConfigError: the record cannot be written.
    """
    lease = timeouts.LEASE
    # After the lease the launcher is killed, then its server ends its agents, and these their workers.
    lasts = lease + lease / 4 + timeouts.end_of_server(timeouts.end_of_agent(shutdown_timeout))
    patience, job = (lease, job) if job is not None else (math.inf, SlurmJob("", 0))
    claim = owner.Owner(uuid.uuid4().hex, lasts, job.id, job.restarts)
    try:
        owner.write(journal, claim)
    except OSError as error:
        raise ConfigError(
            f"{key}={journal.parent}: cannot be written to ({error}). Make it writable, or choose another one"
        ) from error
    arguments = [str(journal.absolute()), claim.id, str(lease), str(patience)]
    command = [*entry.interpreter(lease_keeper.__name__), *arguments]
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    atexit.register(_release, keeper, os.getpid())


def _release(keeper: subprocess.Popen[bytes], launcher: int) -> None:
    """Say that nothing of this launcher runs any more. A batch system would kill the keeper before it finds out."""
    if os.getpid() != launcher:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        keeper.communicate(lease_keeper.ENDED, timeout=timeouts.AFTER_SIGKILL)
