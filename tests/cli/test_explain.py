"""`elastic-hydra explain`: every decision about a job, with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    BatchBegan,
    Event,
    FailedWorker,
    HostJoined,
    HostLost,
    HostsPending,
    JobEnded,
    JobsLeftOut,
    StartsHeldUp,
    StopAsked,
    SweepBegan,
    SweepStopped,
    WorkersBound,
    WorkersFailed,
    WorkersStarted,
)
from elastic_hydra.overview.history import happened, why_now
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import moment
from tests.cli.recorded import composed, record

BOOM = FailedWorker(kind="exception", reason="rank 1 raised ValueError: boom", rank=1)


def test_a_job_that_was_retried_in_vain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(
        tmp_path,
        composed(tmp_path, 0, "lr=1"),
        composed(tmp_path, 1, "lr=2"),
        AttemptStarted(time=1001.0, num=0, attempt=0, gpus=[0, 1], cpus=[0, 1, 2, 3]),
        WorkersBound(time=1002.0, num=0, workers=[{}, {}]),
        WorkersStarted(time=1002.0, num=0),
        StopAsked(time=1002.5, by="ann", reason="no use", nums=[1]),
        WorkersFailed(time=1003.0, num=0, again=True, reason="restart 1 of 1", after=2.0, failure=BOOM),
        AttemptLost(time=1004.0, num=0, reason="its agent was killed", decision="attempt 2 of 2", after=0.0),
        StartsHeldUp(time=1005.0, reason="the disk is full"),
        StartsHeldUp(time=1006.0),
        AttemptStarted(time=1007.0, num=0, attempt=1, host="n2"),
        StartsHeldUp(time=1008.0, reason="not about this job"),
        WorkersFailed(time=1009.0, num=0, attempt=1, reason="all 1 restarts are used up", failure=BOOM),
        JobEnded(time=1010.0, num=0, state="failed", reason=BOOM.reason, seconds=9.0, attempts=2, decision="so it is"),
    )
    assert main(["explain", str(tmp_path), "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "#0 (lr=1): failed, 9.0 s"
    assert [line.split("  ")[-1] for line in lines[1:-1]] == [
        "a launcher began on node",
        "composed",
        "attempt 1 started on GPUs 0-1 and CPUs 0-3",
        "2 workers bound; bindings.json in its logs says to what",
        "the first worker runs",
        "rank 1 raised ValueError: boom; workers restarted in 2.0 s: restart 1 of 1",
        "attempt 1 lost: its agent was killed; tried again at once: attempt 2 of 2",
        "no job can be started: the disk is full",
        "jobs can be started again",
        "attempt 2 started on host n2",
        "rank 1 raised ValueError: boom; not restarted: all 1 restarts are used up",
        "failed after 9.0 s: rank 1 raised ValueError: boom; not tried again: so it is",
    ]


def test_who_has_stopped_a_job_is_told(tmp_path: Path) -> None:
    asked = [StopAsked(time=1001.0, by="ann", reason="no use", nums=[0, 2]), StopAsked(time=1002.0, by="bob")]
    record(tmp_path, composed(tmp_path, 0), *asked, StopAsked(time=1003.0, by="eve", nums=[1]))
    said = [text for _, text in happened([tmp_path / "journal.jsonl"], 0)]
    assert said[2:] == ["ann asked to stop it: no use", "bob asked to stop the sweep"]


def test_a_resumed_job_has_its_past_and_another_sweep_s_is_forgotten(tmp_path: Path) -> None:
    record(tmp_path, composed(tmp_path, 0), SweepStopped(time=1001.0, reason="SIGTERM"))
    record(tmp_path, SweepBegan(time=1002.0, resume=True), begin=False)
    said = [text for _, text in happened([tmp_path / "journal.jsonl"], 0)]
    assert said == [
        "a launcher began on node",
        "composed",
        "the launcher was stopped: SIGTERM",
        "a launcher began to resume the sweep on an unknown host",
    ]
    record(tmp_path, composed(tmp_path, 0))
    assert len(happened([tmp_path / "journal.jsonl"], 0)) == 2


def overview(*events: Event, alive: bool = True) -> SweepOverview:
    sweep = SweepOverview("/s")
    sweep.alive = alive
    for event in (SweepBegan(), *events):
        sweep.apply(event)
    return sweep


JOBS = [composed(Path("/s"), num, f"lr={num}") for num in range(3)]
STARTED = AttemptStarted(time=90.0, num=2, attempt=0)
KEY = "(hydra.launcher.resources.duration)"
LONG = replace(JOBS[2], duration=3600.0)
RESUME = "`elastic-hydra resume` runs"


@pytest.mark.parametrize(
    ("events", "alive", "said"),
    [
        (JOBS, True, "waits for its turn; 2 jobs wait before it"),
        ([*JOBS, StartsHeldUp(reason="the disk is full")], True, "waits: no job can be started: the disk is full"),
        (
            [BatchBegan(jobs=3, parallel="1"), *JOBS, AttemptStarted(num=0, attempt=0)],
            True,
            "waits for its turn: 1 job runs (#0), and hydra.launcher.parallel=1; 1 job waits before it",
        ),
        (
            [BatchBegan(jobs=3, parallel="auto"), *JOBS, *(AttemptStarted(num=n, attempt=0, gpus=[n]) for n in (0, 1))],
            True,
            "waits for room; 2 jobs run (#0, #1) and hold GPUs 0-1",
        ),
        (
            [*JOBS, STARTED, AttemptLost(time=95.0, num=2, reason="x", decision="why", after=7.0)],
            True,
            "waits 2.0 s more before it is tried again: why",
        ),
        (
            [HostJoined(host="n1", ends=2000.0), LONG],
            True,
            f"waits for another host: the time of all hosts is over {moment(2000.0, 100.0)}, and it takes 60 min {KEY}",
        ),
        ([HostJoined(host="n1", ends=2000.0), HostJoined(host="n2"), LONG], True, "waits for its turn"),
        ([HostJoined(host="n1", ends=2000.0), HostLost(host="n1"), LONG], True, "waits for its turn"),
        (
            [HostsPending(hosts=[{"job": "7", "reason": "Priority", "starts": None}]), *JOBS],
            True,
            "waits for a host: 1 host waits in the queue: Priority; 2 jobs wait before it",
        ),
        ([HostsPending(hosts=[{"job": "7"}]), HostsPending(), LONG], True, "waits for its turn"),
        ([*JOBS, STARTED], True, "runs for 10 s"),
        (
            [*JOBS, JobEnded(num=0, state="finished", reason="", seconds=15.0), STARTED],
            True,
            "runs for 10 s; others took 15 s, so 5.0 s are left",
        ),
        (
            [*JOBS, STARTED, WorkersFailed(time=98.0, num=2, again=True, after=5.0)],
            True,
            "its workers are restarted in 3.0 s",
        ),
        ([*JOBS, STARTED], False, f"its launcher died while it ran; {RESUME} it again"),
        (JOBS, False, f"the launcher died before its turn came; {RESUME} it"),
        ([*JOBS, SweepStopped()], False, f"the launcher was stopped before its turn came; {RESUME} it"),
        ([*JOBS, JobsLeftOut(nums=[2], reason="x")], True, ""),
        ([*JOBS, JobEnded(num=2, state="finished", reason="")], True, ""),
    ],
)  # fmt: skip
def test_why_a_job_is_where_it_is(events: list[Event], alive: bool, said: str) -> None:
    sweep = overview(*events, alive=alive)
    assert why_now(sweep, sweep.jobs[2], 100.0) == said
