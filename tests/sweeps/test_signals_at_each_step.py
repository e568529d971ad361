"""A signal at each line of the launcher's loop: every job that was started has one end, and no other job has any."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from elastic_hydra.jobs.attempt_end import AttemptEnd
from elastic_hydra.supervisor.client import Process
from elastic_hydra.supervisor.outcome import Outcome
from elastic_hydra.sweeps import agents, batch, ends, scheduler
from elastic_hydra.sweeps.kept_server import KeptServer
from tests.helpers import batches

pytestmark = pytest.mark.system

STEPS = ("_work_off", "next", "_start", "start", "_settle", "ended", "_do", "after", "_give_back_emptied")
PARTS = 4
"""Tests that share the lines among them: each has minutes only."""
FILES = (batch.__file__, scheduler.__file__, agents.__file__, ends.__file__)


class Agent(Process):
    def outcome(self, *, errors_only: bool = False) -> Outcome | None:
        if self.exitcode != 0:
            return None
        job_return = JobReturn(status=JobStatus.COMPLETED)
        job_return.return_value = 1.0
        return Outcome(value=AttemptEnd(job_return))


class Server:
    """Stands for a warm server: each agent is done as soon as somebody waits for it."""

    reason, lost = "that is none", False

    def __init__(self, at: At) -> None:
        self.started: list[Agent] = []
        self._at = at

    def start(self, _spec: Any, payload: Any) -> Agent:
        attempt = payload[1][0]
        self.started.append(Agent(attempt.job.num, -1))
        return self.started[-1]

    def wait(self, _done: Callable[[], bool], _timeout: float | None) -> bool:
        next(agent for agent in self.started if agent.exitcode is None).exitcode = 0
        return True

    def stop(self, agents: list[Agent], number: int, _shutdown_timeout: float) -> None:
        for agent in agents:
            agent.exitcode = -number if agent.exitcode is None else agent.exitcode

    def forget(self, _agents: list[Agent]) -> None:
        pass

    @contextlib.contextmanager
    def used(self, *_: Any) -> Iterator[Server]:
        sys.settrace(self._at)
        try:
            yield self
        finally:
            sys.settrace(None)


class At:
    """Sends this process a signal when it comes to so many lines of those that are counted, each counted once."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number
        self.lines: set[tuple[str, int]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in FILES or frame.f_code.co_name not in STEPS:
            return None
        line = frame.f_code.co_name, frame.f_lineno
        if event == "line" and line not in self.lines:
            self.lines.add(line)
            if len(self.lines) == self.step:
                os.kill(os.getpid(), self.number)
        return self


def ends_of_jobs(folder: Path) -> Counter[int]:
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return Counter(event["num"] for event in events if event["event"] == "end")


@pytest.mark.parametrize("first", range(1, PARTS + 1))
def test_no_job_is_lost_wherever_a_signal_comes(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: Counter[int] = Counter()
    with batches.sweep(print, tmp_path, "hydra.launcher.parallel=1") as launch_batch:

        def run(at: At) -> BaseException | None:
            server = Server(at)
            monkeypatch.setattr(KeptServer, "used", server.used)
            try:
                launch_batch(["+x=1"], ["+x=2"])
            except (KeyboardInterrupt, SystemExit) as error:
                return error
            finally:
                started.update(agent.id for agent in server.started)
            return None

        all_lines = At(0, signal.SIGINT)
        assert run(all_lines) is None
        assert len(all_lines.lines) > 40
        for step in range(first, len(all_lines.lines) + 1, PARTS):
            number = (signal.SIGINT, signal.SIGTERM)[step % 2]
            error = run(At(step, number))
            if number == signal.SIGINT:
                assert isinstance(error, KeyboardInterrupt), step
            else:
                assert isinstance(error, SystemExit), step
                assert error.code == 128 + number
            assert ends_of_jobs(tmp_path) == started, step
