"""What the slots of a sweep have gone through: the columns of a picture, and where their time went."""

from __future__ import annotations

import time
from typing import Any

from elastic_hydra.report.attempts import Attempts, Stretch
from elastic_hydra.report.goodput import Goodput
from elastic_hydra.report.lanes import in_lanes

__all__ = ["Timeline"]

_PHASES = ("useful", "start-up", "lost")
_BAR = ("lane", "begin", "length", "phase", "job", "attempt")


class Timeline:
    """The slots of a sweep over time.

    Args:
        origin: from when times are counted in the columns, in seconds since the epoch.
        now: when attempts end that run, in seconds since the epoch.
    """

    def __init__(self, origin: float, now: float) -> None:
        self._origin = origin
        self._now = now
        self.goodput = Goodput(0.0, 0.0, 0.0, 0.0)
        self.lanes: list[str] = []
        """The names of the slots."""
        self.pauses: list[tuple[float, float]] = []
        """When no launcher was at work, in seconds since the epoch."""
        self._bars: list[tuple[int, ...]] = []

    def add(self, attempts: Attempts, host: str = "") -> None:
        """Add the attempts of one journal.

        Args:
            attempts: all of its events are applied.
            host: goes before the names of slots, where launchers on several hosts have slots; empty: they have not.
        """
        lanes = in_lanes(attempts.attempts, self._now)
        held: list[Stretch] = []
        for name, lane in lanes:
            for attempt in lane.attempts:
                stretches = attempt.stretches(self._now, attempts.starts_are_recorded)
                held += stretches
                self._bars += [self._bar(stretch, attempt.num, attempt.number) for stretch in stretches]
            self.lanes.append(f"{host}: {name}" if host else name)
        self.goodput += Goodput.of(held, attempts.launches, len(lanes))
        self.pauses = [] if host else attempts.pauses()  # launchers on several hosts pause at different times

    def columns(self) -> dict[str, Any]:
        """Return the columns for the page's program: see `common.js`."""
        return {
            "origin": round((self._origin + time.localtime(self._origin).tm_gmtoff) * 1000),
            "lanes": self.lanes,
            "pauses": [list(map(self._milliseconds, pause)) for pause in self.pauses],
            "bars": {name: [bar[place] for bar in self._bars] for place, name in enumerate(_BAR)},
        }

    def _bar(self, stretch: Stretch, num: int, attempt: int) -> tuple[int, ...]:
        begin, end = self._milliseconds(stretch.begin), self._milliseconds(stretch.end)
        return (len(self.lanes), begin, end - begin, _PHASES.index(stretch.phase), num, attempt)

    def _milliseconds(self, moment: float) -> int:
        return round((moment - self._origin) * 1000)
