"""Slurm's commands: what they answer, and what is said when Slurm's controller does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError

__all__ = ["Answer", "answer_of", "own_job", "require_programs"]


@dataclass(frozen=True)
class Answer:
    """How a command has ended."""

    code: int
    """Its exit code."""
    output: str
    """What it has written to standard output."""
    errors: str
    """What it has written to standard error."""

    @property
    def said(self) -> str:
        """All that it has written."""
        return "\n".join(text for text in (self.output, self.errors) if text)


def answer_of(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout: float = timeouts.SLURM,
    script: str = "",
) -> Answer:
    """Run one of Slurm's commands, and wait for its end.

    It is in a session of its own: Slurm signals all processes of a launcher, and a terminal all of its foreground.

    Args:
        argv: the command line.
        environment: of the command; None: that of this process.
        timeout: seconds that it has to end.
        script: what it reads from standard input.

    Raises:
        TimeoutError: it has not ended; the message says what to do.
        OSError: it cannot be run.
    """
    try:
        done = subprocess.run(
            argv,
            env={**(os.environ if environment is None else environment), "LC_ALL": "C"},
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"{argv[0]} has not answered for {timeout:.0f} s: Slurm's controller cannot be reached from here; ask "
            "`scontrol ping`, and try again when it answers"
        ) from None
    return Answer(done.returncode, done.stdout.strip(), done.stderr.strip())


def require_programs(engine: str, *programs: str) -> None:
    """Refuse an engine whose programs are not installed here.

    Raises:
        ConfigError: it names them.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise ConfigError(
            f"hydra.launcher.hosts.engine={engine}: there is no program {' and no '.join(missing)} here: start the "
            "sweep where Slurm's commands work (a login node, or a node of the cluster), or choose another "
            "hydra/launcher/hosts"
        )


def own_job(environ: Mapping[str, str]) -> str:
    """Return the id by which Slurm's commands take the job of a process, and no other job; empty: it is in none.

    One element of each job array has the id of the array itself, by which the commands mean all elements.

    Args:
        environ: the environment variables of the process.
    """
    job = environ.get("SLURM_JOB_ID", "")
    if not job.isdigit():
        return ""
    # A job that an element of an array has submitted has inherited the variables of that array.
    return f"{job}_{environ['SLURM_ARRAY_TASK_ID']}" if environ.get("SLURM_ARRAY_JOB_ID") == job else job
