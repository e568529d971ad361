"""What a scheduler may say: what is to be done next with the jobs of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from elastic_hydra.jobs.job import Attempt
from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps.stop import Order

__all__ = ["Blocked", "ComposeJob", "Done", "KillAgent", "LeaveOut", "StartJob", "Step", "StopAgent", "Wait"]


@dataclass(frozen=True)
class StartJob:
    """Start this attempt in these slots, one for each of its nodes. It counts as running from now on."""

    attempt: Attempt
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class ComposeJob:
    """Compose this job, and say so with `composed`: nothing can start now, or the job is to be left out."""

    num: int
    overrides: list[str]


@dataclass(frozen=True)
class StopAgent:
    """Tell this job's agent to stop, and the job with it."""

    num: int
    order: Order


@dataclass(frozen=True)
class KillAgent:
    """Kill this job's agents, which should have ended the job: they hang, or a signal has stopped them."""

    num: int


@dataclass(frozen=True)
class LeaveOut:
    """Do not start these: they are no longer in the queue."""

    attempts: list[Attempt]
    reason: str


@dataclass(frozen=True)
class Wait:
    """Wait until a job has ended, at the latest until then (None: for ever), and ask again."""

    until: float | None


@dataclass(frozen=True)
class Done:
    """All jobs have ended or are left out."""


Step: TypeAlias = StartJob | ComposeJob | StopAgent | KillAgent | LeaveOut | Wait | Done
"""What comes next."""


@dataclass(frozen=True)
class Blocked:
    """Why no job can be started now, whatever room there is."""

    reason: str
    lasting: bool = False
    """Whether it is of no use to wait for its end."""
