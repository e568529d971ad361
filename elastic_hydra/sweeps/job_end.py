"""How a job has ended: a line of the journal, and a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from elastic_hydra.journal.events import JobEnded, State
from elastic_hydra.supervisor.shorten import shortened

__all__ = ["NOT_STARTED", "JobEnd"]

_LONGEST_TRACEBACK = 6000
"""Characters of a traceback that the journal keeps."""

NOT_STARTED: Literal["not started"] = "not started"


@dataclass
class JobEnd:
    """How one job has ended."""

    num: int
    overrides: Sequence[str]
    state: str
    """As in the journal, or `not started`."""
    reason: str = ""
    """In one line; empty when it finished."""
    log: Path | None = None
    """Where to read on."""
    value: Any = None
    """What it has returned; the table keeps a number, or what `kept` makes of anything else."""
    seconds: float = 0.0
    """Since its first attempt began."""
    attempts: int = 0
    restarts: int = 0
    """Of its workers, in all attempts."""
    kind: str = ""
    """Of the failure; empty when it finished."""
    traceback: str = ""
    """Of the exception because of which it has failed; empty when there is none."""
    decision: str = ""
    """Why it was not tried again; empty when nothing had to be decided."""
    recorded: bool = False
    """Whether an earlier launcher ran it."""

    def event(self) -> JobEnded:
        """Return what the journal says of it, without the value."""
        return JobEnded(
            num=self.num,
            state=cast("State", self.state),
            kind=self.kind,
            reason=self.reason,
            decision=self.decision,
            log=str(self.log) if self.log is not None else None,
            traceback=self._recorded_traceback(),
            seconds=round(self.seconds, 3),
            attempts=self.attempts,
            restarts=self.restarts,
        )

    def _recorded_traceback(self) -> str | None:
        """Return what the journal keeps of the traceback. That of a job that was stopped says nothing about the job."""
        told = self.traceback if self.state == "failed" else ""
        return shortened(told, _LONGEST_TRACEBACK) or None
