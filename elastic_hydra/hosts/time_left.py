"""How long a host will be there: a host that is a Slurm job, or a node of one, ends at that job's time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from elastic_hydra import timeouts
from elastic_hydra.hosts.slurm_commands import answer_of, own_job

__all__ = ["in_seconds", "time_left"]


def time_left(environ: Mapping[str, str]) -> float | None:
    """Return the seconds that a process's Slurm job still has; None: it is in none, has no limit, or Slurm is silent.

    Slurm before 23.02 does not say it in the environment, and is asked.

    Args:
        environ: the environment variables of the process.
    """
    job, end = own_job(environ), environ.get("SLURM_JOB_END_TIME", "")
    if not job:
        return None
    if end.isdigit():
        return max(0.0, int(end) - time.time())
    try:
        answer = answer_of(["squeue", "--noheader", f"--jobs={job}", "--format=%L"], timeout=timeouts.SLURM_LOOK)
    except OSError:
        return None  # squeue is not on PATH there, or the controller does not answer
    return in_seconds(answer.output.split("\n", 1)[0])


def in_seconds(text: str) -> float | None:
    """Read a time as Slurm writes it, `1-02:03:04` or `4:54`; None: it is UNLIMITED, or no time."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
