"""How many jobs of a sweep may fail before no other one starts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FailureLimit"]


@dataclass
class FailureLimit:
    """Counts the jobs that have failed, over all batches of a sweep."""

    on_failure: str = "continue"
    """`hydra.launcher.on_failure`: `continue` or `stop`."""
    max_failures: str | None = None
    """`hydra.launcher.max_failures`: a number of jobs or, with a decimal point, a part of them; None: no limit."""
    count: int = 0

    def exceeded(self, size: int) -> str:
        """Say why no more jobs are to start; nothing when they are.

        Args:
            size: the number of jobs of which `max_failures` may be a part.
        """
        if self.on_failure == "stop" and self.count:
            return "a job has failed, and hydra.launcher.on_failure=stop"
        if self.max_failures is None:
            return ""
        most = float(self.max_failures) * size if "." in self.max_failures else int(self.max_failures)
        if self.count <= most:
            return ""
        return f"{self.count} jobs have failed, and hydra.launcher.max_failures={self.max_failures}"
