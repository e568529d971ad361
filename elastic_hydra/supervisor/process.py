"""A process that a server has started, as its client sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from elastic_hydra.supervisor import outcome

__all__ = ["Process"]


@dataclass(eq=False)
class Process:
    """A process that the server has started for us."""

    id: int
    result_fd: int
    """Where its outcome appears; -1 for a program."""
    pid: int | None = None
    exitcode: int | None = None
    """None while it runs; minus the signal's number when one killed it."""
    exit_time: float = 0.0
    """When the server saw it end, in seconds since the epoch."""
    refused: str = ""
    """Why it could not be started."""
    fate: str = ""
    """Why it ended, where its exit code does not say it."""

    def outcome(self, *, errors_only: bool = False) -> outcome.Outcome | None:
        """Read what its function has handed over so far; see `outcome.read`."""
        return outcome.read(self.result_fd, errors_only=errors_only) if self.result_fd >= 0 else None

    def failed_at(self) -> float | None:
        """Return when its function has handed over an exception, in seconds since the epoch."""
        return outcome.failed_at(self.result_fd) if self.result_fd >= 0 else None

    def how_it_left(self) -> str:
        """Say in words how one that has ended well came to its end."""
        return outcome.how_it_left(self.result_fd) if self.result_fd >= 0 else "ended with exit code 0"

    def close(self) -> None:
        """Forget its outcome."""
        if self.result_fd >= 0:
            os.close(self.result_fd)
            self.result_fd = -1
