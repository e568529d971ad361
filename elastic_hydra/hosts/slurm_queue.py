"""Why hosts wait in Slurm's queue: one squeue for all of them, now and then, whose answer nobody waits for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from elastic_hydra import timeouts
from elastic_hydra.hosts.queue import Pending
from elastic_hydra.hosts.srun import srun_environment
from elastic_hydra.hosts.transport import Transport

__all__ = ["SlurmQueue", "pending_in"]

_INTERVAL = 30.0
"""Seconds between two questions: a controller serves thousands of users."""
_FIRST = 2.0
"""Seconds from the first submission to the first question: with free nodes, there is a host before."""
_GLANCE = 0.2
"""Seconds between two looks at whether squeue has ended."""


class SlurmQueue:
    """Asks Slurm for those of this user's jobs that wait."""

    def __init__(self) -> None:
        self._squeue: subprocess.Popen[str] | None = None
        """The question that has no answer yet."""
        self._answer: IO[str] | None = None
        self._asked = 0.0
        self._next: float | None = None
        """When to ask; None: no host is coming."""

    def look(self, coming: Mapping[str, Transport], now: float) -> Sequence[Pending] | None:
        """Return the hosts that wait; see `Queue.look`."""
        if self._squeue is not None:
            return self._take_answer(coming, now)
        if not coming:
            self._next = None
        elif self._next is None:
            self._next = max(now + _FIRST, self._asked + _INTERVAL if self._asked else 0.0)
        elif now >= self._next:
            self._ask(now)
        return None

    def next_look(self, now: float) -> float | None:
        """Return when to look again; see `Queue.next_look`."""
        return self._next if self._squeue is None else now + _GLANCE

    def close(self) -> None:
        """End squeue, if it still runs."""
        if self._squeue is not None:
            self._squeue.kill()
            self._squeue.wait()
        if self._answer is not None:
            self._answer.close()
        self._squeue = self._answer = None

    def _ask(self, now: float) -> None:
        self._asked, self._next = now, now + _INTERVAL
        self._answer = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (it is closed with the answer)
        argv = ["squeue", "--noheader", f"--user={os.getuid()}", "--states=PENDING", "--format=%i|%j|%r|%S"]
        environment = srun_environment(os.environ) | {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}
        try:
            self._squeue = subprocess.Popen(
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._answer,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        except OSError:  # squeue is not here: then it is not known why hosts wait
            self.close()

    def _take_answer(self, coming: Mapping[str, Transport], now: float) -> Sequence[Pending] | None:
        """Return what squeue says once it has ended; None: it has not, or has failed."""
        assert self._squeue is not None
        assert self._answer is not None
        code = self._squeue.poll()
        if code is None and now < self._asked + timeouts.SLURM:
            return None
        found = None
        if code == 0:
            self._answer.seek(0)
            found = pending_in(self._answer.read(), {_job_name(way): place for place, way in coming.items()})
        self.close()
        return found


def pending_in(answer: str, places: Mapping[str, str]) -> list[Pending]:
    """Read what squeue says.

    Args:
        answer: lines `id|name|reason|start`, with times in seconds since the epoch.
        places: names of places by the names of the jobs that are asked for there.
    """
    found = []
    for line in answer.splitlines():
        fields = line.split("|")
        if len(fields) == 4 and (place := places.get(fields[1])) is not None:
            job, _, reason, start = fields
            found.append(Pending(place, job, reason, float(start) if start.isdigit() else None))
    return found


def _job_name(way: Transport) -> str:
    name = ""
    with contextlib.suppress(AttributeError):
        name = way.job_name  # type: ignore[attr-defined]
    return name
