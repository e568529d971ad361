"""What has failed and what follows: the same on all nodes of a job."""

from __future__ import annotations

from dataclasses import dataclass

from elastic_hydra.failures.classify import Failure
from elastic_hydra.failures.policy import Decision

__all__ = ["Verdict"]


@dataclass(frozen=True)
class Verdict:
    """A failure and the decision about it."""

    failure: Failure
    decision: Decision
    time: float
    """When it was decided, in seconds since the epoch, by the clock of the node that decided: the same on all nodes."""
