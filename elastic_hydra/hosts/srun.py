"""What the two ways through Slurm have in common: srun, its environment, and its messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from elastic_hydra.hosts.advised import AdvisedTransport
from elastic_hydra.hosts.environment import COMPLETE, DIRECTORIES, GPUS, is_slurms
from elastic_hydra.hosts.tied import tied
from elastic_hydra.hosts.transport import Ended

__all__ = ["SrunTransport", "login_environment", "srun_environment"]

_WAITS, _HAS_ROOM = "queued and waiting for resources", "has been allocated resources"
"""What srun says when its job has to wait, and when it has not to wait any more."""
_OF_SLURM = re.compile(r"(srun|slurmstepd-\S+): ")
"""Beginning of what srun and Slurm's daemons say."""
_BY_ITSELF = 0.5
"""Seconds that srun has to end after its task."""


class SrunTransport(AdvisedTransport):
    """srun with one task: the host process. It does not wait in the queue for a launcher that is gone.

    Args:
        argv: srun's command line.
        environment: of srun.
        name: for messages.
        advice: as for `AdvisedTransport`.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str], name: str, advice: Mapping[str, str]
    ) -> None:
        super().__init__(tied(argv), environment, name, advice)
        self._is_killed = False
        """Whether srun ran when it was told to end: then it says so."""

    def ended(self) -> Ended | None:
        """Return how srun has ended. What it says of its task is true; its exit code says little."""
        ended = super().ended()
        if ended is None or not any(re.match(r"srun: error: \S+: task 0: ", line) for line in ended.last_lines):
            return ended
        return replace(ended, host_is_gone=True)

    def terminate(self) -> None:
        """Tell srun to end, and so its step or its job."""
        self._is_killed = self._is_killed or self.ended() is None
        super().terminate()

    def kill(self) -> None:
        """End srun, and so its step or its job; one whose host process has ended is about to end by itself."""
        waits_in_queue = _WAITS in (said := " ".join(self.last_lines())) and _HAS_ROOM not in said
        if not waits_in_queue and not self._is_killed:
            self._await_end(_BY_ITSELF)
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
    return login_environment(environ) | {COMPLETE: "1"} | kept


def login_environment(environ: Mapping[str, str], kept: Sequence[str] = ()) -> dict[str, str]:
    """Return an environment without what is true only of the job, the step or the host that it is from.

    Args:
        environ: the environment.
        kept: beginnings of Slurm's variables that stay all the same.
    """

    def stays(name: str) -> bool:
        return name.startswith(tuple(kept)) or not (is_slurms(name) or name in (*GPUS, *DIRECTORIES))

    return {name: value for name, value in environ.items() if stays(name)}
