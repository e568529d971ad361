"""The Slurm job that a launcher runs in: what Slurm says of it, and how it is put back into the queue."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from elastic_hydra import timeouts
from elastic_hydra.hosts.slurm_commands import answer_of, own_job
from elastic_hydra.supervisor.client import ENDS
from elastic_hydra.supervisor.signal_queue import SignalQueue, interruptibly
from elastic_hydra.sweeps.stop import Order

__all__ = ["Fate", "SlurmJob", "fate_of"]


@dataclass(frozen=True)
class Fate:
    """Whether a job goes back into the queue, and why or why not."""

    requeue: bool
    """Whether the launcher has to ask for it."""
    reason: str = ""
    """In words; empty: nobody expects that it goes back."""


@dataclass(frozen=True)
class SlurmJob:
    """One life of the Slurm job that this process runs in."""

    id: str
    restarts: int
    """How many times Slurm has started it anew."""
    is_first_task: bool = True
    """Whether this process speaks for the job: with several nodes, one launcher does."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> SlurmJob | None:
        """Return the job that the environment variables tell of; None: there is none."""
        if not (job := own_job(environ)):
            return None
        restarts = environ.get("SLURM_RESTART_COUNT", "")
        return cls(job, int(restarts) if restarts.isdigit() else 0, environ.get("SLURM_PROCID", "0") == "0")

    def __str__(self) -> str:
        return f"Slurm job {self.id}"

    def look(self) -> Mapping[str, str]:
        """Ask Slurm for what it knows of the job: `JobState`, `Restarts`, `Requeue` and so on.

        Raises:
            OSError: Slurm does not answer; the message says why.
        """
        words = self._scontrol("--oneliner", "show", "job", self.id).split()
        return {key: value for key, _, value in (word.partition("=") for word in words)}

    def requeue(self) -> None:
        """Put the job back into the queue, and wait to be told to end.

        A script that goes on after the launcher's end would do what is meant to be done after the sweep.

        Raises:
            OSError: Slurm refuses; the message says why.
        """
        with contextlib.suppress(_Told), SignalQueue([signal.SIGTERM], lambda _: _Told()):
            self._scontrol("requeue", self.id)
            interruptibly(time.sleep, timeouts.REQUEUE)

    def _scontrol(self, *arguments: str) -> str:
        answer = answer_of(("scontrol", *arguments), timeout=timeouts.SCONTROL)
        if answer.code != 0:
            raise OSError(answer.errors or f"scontrol {arguments[0]} has ended with {answer.code}")
        return answer.output


class _Told(Exception):
    """The launcher is told to end, as its job goes back into the queue."""


def fate_of(job: SlurmJob, order: Order, known: Mapping[str, str]) -> Fate:
    """Decide what becomes of a job whose launcher was told to stop before its sweep was done.

    SIGTERM alone does not say why it was sent: Slurm sends it for a preemption, at the time limit, when the job is put
    back into the queue, and when somebody cancels it.

    Args:
        job: this life of it.
        order: what has told the launcher to stop.
        known: what Slurm knows of the job.
    """
    if order.by or order.number == signal.SIGINT:
        return Fate(False)
    if int(known.get("Restarts", "0")) > job.restarts:
        return Fate(False, "Slurm starts it again by itself")
    runs = known.get("JobState") in ("RUNNING", "SUSPENDED")
    if runs and order.number not in ENDS:
        why = f"{order.number.name} has announced its end"
    elif runs and known.get("PreemptTime", "None") != "None":
        why = "it is being preempted"
    elif known.get("Reason") == "TimeLimit" or known.get("JobState") == "TIMEOUT":
        why = "its time limit is over"
    else:
        return Fate(False)
    if known.get("BatchFlag") != "1":
        return Fate(False, "it is no batch job, which alone can go back: submit a script by sbatch")
    if known.get("Requeue") != "1":
        return Fate(False, "it must not: submit it with --requeue")
    return Fate(True, why)
