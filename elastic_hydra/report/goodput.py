"""Where the time of the slots went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from elastic_hydra.report.attempts import Launch, Stretch

__all__ = ["Goodput"]


@dataclass(frozen=True, slots=True)
class Goodput:
    """Slot-seconds: seconds of each slot, added up over all slots."""

    useful: float
    """Workers have worked, and this start of them has ended well, or goes on."""
    lost: float
    """Workers have worked, and have failed, or were stopped. What a checkpoint has saved of it is not known."""
    start_up: float
    """Agents and workers were started, or restarted, which includes the wait before a restart."""
    idle: float
    """A launcher was at work, and the slot was empty."""

    @classmethod
    def of(cls, stretches: Iterable[Stretch], launches: Iterable[Launch], slots: int) -> Goodput:
        """Add up what all slots have gone through.

        Args:
            stretches: of all attempts in all slots.
            launches: when launchers were at work.
            slots: how many there are.
        """
        seconds = {"useful": 0.0, "lost": 0.0, "start-up": 0.0}
        for stretch in stretches:
            seconds[stretch.phase] += stretch.seconds
        held, there = sum(seconds.values()), slots * sum(launch.end - launch.begin for launch in launches)
        return cls(seconds["useful"], seconds["lost"], seconds["start-up"], max(0.0, there - held))

    def __add__(self, other: Goodput) -> Goodput:
        return Goodput(
            self.useful + other.useful,
            self.lost + other.lost,
            self.start_up + other.start_up,
            self.idle + other.idle,
        )

    @property
    def total(self) -> float:
        """All slot-seconds."""
        return self.useful + self.lost + self.start_up + self.idle

    @property
    def ratio(self) -> float:
        """The useful part of all, from 0 to 1; 0 when there is no time at all."""
        return self.useful / self.total if self.total else 0.0
