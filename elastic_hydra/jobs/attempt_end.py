"""How an attempt at a job has ended: told by its agent or, where the agent was lost, by the launcher."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from hydra.core.utils import JobReturn

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure
from elastic_hydra.journal.events import State
from elastic_hydra.supervisor.packed_error import PackedError, unpack

__all__ = ["AttemptEnd", "agent_failure", "failure_here"]

_BY_HAND = ("SIGINT", "SIGQUIT", "SIGHUP")
"""Signals that a person sends, or that a terminal sends when it is closed; others come from who runs the machine."""


@dataclass
class AttemptEnd:
    """How an attempt has ended. An agent sends it to the launcher, with the exception packed."""

    job_return: JobReturn
    failure: Failure | None = None
    """Why the attempt has failed; None: it has finished."""
    restarts: tuple[float, ...] | None = None
    """When the workers were restarted, in all attempts, on the monotonic clock; None: the last agent could not say."""
    imported: frozenset[str] = frozenset()
    """Slow modules that the workers had to import: the warm server may spare the next ones that."""
    agent_lost: bool = False
    """Whether the agent was lost, or that of one of its nodes was told to stop, so that another attempt may help."""
    by_hand: bool = False
    """Whether a user has stopped it by `elastic-hydra stop`."""
    error: PackedError | None = None
    """On the way to the launcher: the exception that the job has raised."""
    traceback: str = ""
    """The text of that exception's traceback."""

    def unpacked(self) -> AttemptEnd:
        """Return the end with the exception where Hydra's sweeper looks for it, the worker's frames in it."""
        if self.error is not None:
            self.job_return.return_value = unpack(self.error)
            self.traceback = self.error.text
            self.error = None
        return self

    @property
    def state(self) -> State:
        """How the job has ended if there is no further attempt, in the journal's words."""
        if self.failure is None:
            return "finished"
        if self.failure.kind is not Kind.preempted:
            return "failed"
        return "interrupted" if self.by_hand or self.failure.signal in _BY_HAND else "preempted"


def failure_here(kind: Kind, reason: str, signal_name: str = "") -> Failure:
    """Make the failure of an attempt that no worker has brought about.

    Args:
        kind: of the failure.
        reason: in one line.
        signal_name: the signal that has told the attempt to stop, if one has.
    """
    return Failure(kind, reason, os.uname().nodename, time.time(), signal=signal_name)


def agent_failure(error: PackedError) -> Failure:
    """Make the failure of an attempt whose agent has raised an exception outside of the workers."""
    name = error.type_name.rpartition(".")[2]
    first = next(iter(error.message.strip().splitlines()), "")
    return failure_here(Kind.exception, f"its agent raised {name}: {first}".rstrip(": "))
