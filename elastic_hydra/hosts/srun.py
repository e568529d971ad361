"""What the two ways through Slurm have in common: srun, its environment, its messages, and questions to Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.hosts.advised import AdvisedTransport
from elastic_hydra.hosts.environment import COMPLETE, DIRECTORIES, GPUS, is_slurms
from elastic_hydra.hosts.transport import Ended

__all__ = ["SrunTransport", "answer_of", "require_programs", "srun_environment"]

_WAITS, _HAS_ROOM = "queued and waiting for resources", "has been allocated resources"
"""What srun says when its job has to wait, and when it has not to wait any more."""
_OF_SLURM = re.compile(r"(srun|slurmstepd-\S+): ")
"""Beginning of what srun and Slurm's daemons say."""
_BY_ITSELF = 0.5
"""Seconds that srun has to end after its task."""
_ANSWER = 60.0
"""Seconds that Slurm's controller has to answer."""


class SrunTransport(AdvisedTransport):
    """srun with one task: the host process."""

    _is_killed = False
    """Whether srun ran when it was killed: then it says so."""

    def ended(self) -> Ended | None:
        """Return how srun has ended. What it says of its task is true; its exit code says little."""
        ended = super().ended()
        if ended is None or not any(re.match(r"srun: error: \S+: task 0: ", line) for line in ended.last_lines):
            return ended
        return replace(ended, host_is_gone=True)

    def kill(self) -> None:
        """End srun, and so its step or its job; one whose host process has ended is about to end by itself."""
        waits_in_queue = _WAITS in (said := " ".join(self.last_lines())) and _HAS_ROOM not in said
        if not waits_in_queue:
            self._await_end(_BY_ITSELF)
        self._is_killed = self.ended() is None
        super().kill()

    def lines(self) -> list[str]:
        """Return new lines, but not what Slurm says when we end srun."""
        lines = super().lines()
        return [line for line in lines if not _OF_SLURM.match(line)] if self._is_killed else lines


def srun_environment(environ: Mapping[str, str], **kept: str) -> dict[str, str]:
    """Return the environment in which srun is started; its task gets all of it.

    In a step or a batch script many of Slurm's variables are set, and some break the stream: with SLURM_LABELIO=1 each
    line begins with the number of a task. GPUs and directories are those of the launcher's host only; Slurm says what
    a host has.

    Args:
        environ: of the launcher.
        kept: Slurm's variables that srun needs.
    """
    left = {name: environ[name] for name in environ if not is_slurms(name) and name not in (*GPUS, *DIRECTORIES)}
    return left | {COMPLETE: "1"} | kept


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


def answer_of(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Return the exit code of one of Slurm's commands, and what it writes.

    Raises:
        ConfigError: it does not end.
    """
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_ANSWER,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"{argv[0]} has not answered for {_ANSWER:.0f} s: Slurm's controller cannot be reached from here; ask "
            "`scontrol ping`, and try again when it answers"
        ) from None
    return done.returncode, done.stdout.strip()
