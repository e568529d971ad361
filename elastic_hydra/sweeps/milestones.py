"""When a sweep of many jobs says how far it is."""

from __future__ import annotations

__all__ = ["Milestones"]

_PARTS = 20
"""Of the sweep: at the end of each there is a milestone."""
_PATIENCE = 600.0
"""Seconds after which the next job that ends is a milestone, however slow the sweep is."""


class Milestones:
    """Chooses the ends of jobs at which a person wants to hear how far the sweep is: the first, and some others."""

    def __init__(self) -> None:
        self._done = 0
        """How many jobs had ended at the last milestone."""
        self._time = 0.0
        """When that was."""

    def reached(self, done: int, total: int, now: float) -> bool:
        """Whether a milestone is reached.

        Args:
            done: how many jobs have ended.
            total: how many there are.
            now: the time, in seconds.
        """
        another_part = done * _PARTS // total > self._done * _PARTS // total
        if self._done and not another_part and now - self._time < _PATIENCE:
            return False
        self._done, self._time = done, now
        return True
