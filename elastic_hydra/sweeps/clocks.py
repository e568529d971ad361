"""Times of another host's clocks, on those of the launcher: each machine has a monotonic clock of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.jobs.job import Attempt
from elastic_hydra.journal.codec import NewerFormat, UnusableLine, decode
from elastic_hydra.journal.events import Event, WorkersFailed

__all__ = ["HERE", "Clocks"]

log = logging.getLogger("elastic_hydra")


@dataclass(frozen=True)
class Clocks:
    """The clocks of a host minus those of this one, in seconds."""

    monotonic: float = 0.0
    wall: float = 0.0

    def of_host(self, attempt: Attempt) -> Attempt:
        """Return an attempt as the host's agent is to see it."""
        return replace(
            attempt,
            began=None if attempt.began is None else attempt.began + self.monotonic,
            restarts=tuple(moment + self.monotonic for moment in attempt.restarts),
        )

    def here(self, end: AttemptEnd) -> AttemptEnd:
        """Return the end of an attempt, which the host's agent has told, with times of this process's clocks."""
        if self == HERE or end.restarts is None:
            return end
        return replace(end, restarts=tuple(moment - self.monotonic for moment in end.restarts))

    def events(self, lines: bytes) -> Iterator[Event]:
        """Yield the events in lines of a journal that the host has written, with times of this process's clocks."""
        for line in lines.splitlines():
            try:
                event = decode(line)
            except (UnusableLine, NewerFormat) as problem:
                log.warning("a line of a host's journal cannot be used (%s): %r", problem, line)
                continue
            if event is None:
                continue
            event.time = round(event.time - self.wall, 3)
            if isinstance(event, WorkersFailed) and event.monotonic is not None:
                event.monotonic = round(event.monotonic - self.monotonic, 3)
            yield event


HERE = Clocks()
"""Those of the launcher's own host."""
