"""Hosts that wait in the queue of whoever gives them, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from elastic_hydra.hosts.transport import Transport

__all__ = ["Pending", "Queue"]


@dataclass(frozen=True)
class Pending:
    """A host that was asked for, and waits in the queue."""

    place: str
    """Where it will be, for people: `job 2`."""
    job: str
    """The id of its job, by which the queue's own commands find it."""
    reason: str
    """Why it waits, in the queue's words: `Priority`."""
    starts: float | None = None
    """When it is expected to come, in seconds since the epoch; None: nobody knows."""


class Queue(Protocol):
    """Says why hosts wait. An engine whose hosts wait in a queue may have one as its attribute `queue`."""

    def look(self, coming: Mapping[str, Transport], now: float) -> Sequence[Pending] | None:
        """Return the hosts that wait, without waiting for an answer; None: there is none since the last look.

        Args:
            coming: the ways to the hosts that were asked for and have not spoken yet, by the names of their places.
            now: the time, on the monotonic clock.
        """

    def next_look(self, now: float) -> float | None:
        """Return when to `look` again, on the monotonic clock; None: there is nothing to look for.

        Args:
            now: the time.
        """

    def close(self) -> None:
        """Ask for nothing any more, and release what is held."""
