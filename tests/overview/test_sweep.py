"""What the overview of a sweep says after each event."""

from __future__ import annotations

import pytest

from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    BatchBegan,
    FailedWorker,
    JobComposed,
    JobEnded,
    JobsLeftOut,
    StartsHeldUp,
    SweepBegan,
    SweepStopped,
    WorkersFailed,
)
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.time_left import TimeLeft


def composed(num: int, *overrides: str) -> JobComposed:
    return JobComposed(num=num, overrides=overrides, config="", dir=f"/old/{num}")


@pytest.fixture
def sweep() -> SweepOverview:
    overview = SweepOverview("/new")
    overview.alive = True
    overview.apply(SweepBegan(time=100.0, dir="/old", host="here", command=["python", "app.py"]))
    overview.apply(composed(0, "lr=1", "epochs=3", "hydra.launcher.parallel=2"))
    overview.apply(composed(1, "lr=2", "epochs=3"))
    return overview


def test_a_job_that_runs_has_a_time_and_a_directory(sweep: SweepOverview) -> None:
    sweep.apply(AttemptStarted(time=110.0, num=0, attempt=0, gpus=[1]))
    job = sweep.jobs[0]
    assert (job.state, job.dir, job.log_dir, job.gpus, job.seconds(115.0)) == (
        "running", "/new/0", "/new/0/logs", [1], 5.0,
    )  # fmt: skip
    assert sweep.counts() == {"running": 1, "waiting": 1}
    assert sweep.running() == [job]


def test_only_what_differs_tells_a_job_from_others(sweep: SweepOverview) -> None:
    assert [sweep.differing(job) for job in sweep.jobs.values()] == [["lr=1"], ["lr=2"]]
    assert sweep.common() == ["epochs=3"]
    sweep.apply(composed(2, "lr=2", "epochs=4"))
    assert [sweep.differing(job) for job in sweep.jobs.values()] == [
        ["lr=1", "epochs=3"],
        ["lr=2", "epochs=3"],
        ["lr=2", "epochs=4"],
    ]
    assert sweep.common() == []


def test_restarts_and_attempts_are_counted(sweep: SweepOverview) -> None:
    job = sweep.jobs[0]
    sweep.apply(AttemptStarted(time=110.0, num=0, attempt=0))
    failure = FailedWorker(kind="exception", reason="rank 1: boom")
    sweep.apply(WorkersFailed(time=111.0, num=0, again=True, after=5.0, failure=failure))
    sweep.apply(WorkersFailed(time=118.0, num=0, again=True, counts=False, failure=failure))
    assert (job.state, job.restarts, job.reason, job.not_before) == ("running", 1, "rank 1: boom", 118.0)
    sweep.apply(AttemptLost(time=120.0, num=0, attempt=0, kind="agent", reason="the agent was killed"))
    assert (job.state, job.reason) == ("waiting", "the agent was killed")
    sweep.apply(AttemptStarted(time=125.0, num=0, attempt=1))
    assert (job.state, job.attempt, job.restarts, job.started, job.reason) == ("running", 1, 1, 110.0, "")
    sweep.apply(
        JobEnded(time=130.0, num=0, state="finished", reason="", seconds=20.0, attempts=2, restarts=1, value=0.5)
    )
    assert (job.state, job.attempt, job.restarts, job.seconds(999.0), job.value) == ("finished", 1, 1, 20.0, 0.5)


def test_jobs_of_a_dead_launcher_are_lost_or_not_started(sweep: SweepOverview) -> None:
    sweep.apply(AttemptStarted(time=110.0, num=0, attempt=0))
    sweep.alive = False
    assert sweep.state == "died"
    assert sweep.counts() == {"lost": 1, "not started": 1}
    assert [job.num for job in sweep.failures()] == [0]


def test_a_sweep_that_was_told_to_end_says_so(sweep: SweepOverview) -> None:
    sweep.alive = False
    sweep.apply(SweepStopped(time=120.0, reason="SIGTERM"))
    assert sweep.state == "stopped"


@pytest.mark.parametrize(("state", "whole"), [("finished", "finished"), ("failed", "failed")])
def test_a_sweep_is_as_good_as_its_worst_job(sweep: SweepOverview, state: str, whole: str) -> None:
    sweep.alive = False
    sweep.apply(JobEnded(num=0, state="finished", reason=""))
    sweep.apply(JobEnded(num=1, state=state, reason="" if state == "finished" else "boom"))  # type: ignore[arg-type]
    assert sweep.state == whole


def test_where_nobody_sees_whether_the_launcher_lives_open_jobs_count_as_running(sweep: SweepOverview) -> None:
    sweep.alive = None
    assert sweep.state == "running"
    sweep.apply(SweepStopped(reason="SIGTERM"))
    assert sweep.state == "stopped"


def test_a_launcher_that_resumes_starts_lost_jobs_again(sweep: SweepOverview) -> None:
    sweep.apply(AttemptStarted(num=0, attempt=0))
    sweep.apply(SweepBegan(time=200.0, dir="/old", resume=True))
    assert sweep.counts() == {"waiting": 2}
    assert sweep.first_began == 100.0
    sweep.apply(AttemptStarted(time=210.0, num=0, attempt=0))
    assert sweep.jobs[0].started == 210.0


def test_a_launcher_that_does_not_resume_begins_another_sweep(sweep: SweepOverview) -> None:
    sweep.apply(SweepBegan(time=200.0, dir="/old"))
    assert (sweep.jobs, sweep.counts(), sweep.first_began, sweep.state) == ({}, {}, 200.0, "running")


def test_the_time_left_is_that_of_the_jobs_that_have_finished(sweep: SweepOverview) -> None:
    assert TimeLeft(sweep, 110.0).of_sweep() is None
    for num in (2, 3):
        sweep.apply(composed(num, f"lr={num}"))
    sweep.apply(AttemptStarted(time=100.0, num=0, attempt=0))
    sweep.apply(JobEnded(time=110.0, num=0, state="finished", reason="", seconds=10.0))
    sweep.apply(AttemptStarted(time=110.0, num=1, attempt=0))
    left = TimeLeft(sweep, 114.0)
    assert left.of_job(sweep.jobs[1]) == 6.0
    assert left.of_sweep() == 26.0  # two more jobs wait, of 10 s each
    assert TimeLeft(sweep, 130.0).of_job(sweep.jobs[1]) is None


def test_jobs_that_are_not_composed_yet_wait(sweep: SweepOverview) -> None:
    sweep.apply(SweepBegan(time=200.0, dir="/old"))
    sweep.apply(BatchBegan(jobs=3, parallel="2"))
    sweep.apply(composed(0, "lr=1"))
    assert (sweep.total, sweep.waiting, sweep.counts(), sweep.parallel) == (3, 3, {"waiting": 3}, "2")
    sweep.apply(JobEnded(num=0, state="finished", reason=""))
    sweep.alive = False
    assert (sweep.state, sweep.counts()) == ("died", {"finished": 1, "not started": 2})


def test_jobs_that_are_left_out_are_not_started_and_say_why(sweep: SweepOverview) -> None:
    sweep.apply(BatchBegan(jobs=1))
    sweep.apply(JobEnded(num=0, state="failed", reason="boom"))
    sweep.apply(JobsLeftOut(nums=[1, 2], reason="a job has failed"))
    assert (sweep.jobs[1].state, sweep.jobs[1].reason) == ("not started", "a job has failed")
    assert (sweep.total, sweep.counts()) == (3, {"failed": 1, "not started": 2})
    sweep.alive = False
    assert sweep.state == "failed"


def test_what_holds_up_all_starts_is_known_until_it_is_over(sweep: SweepOverview) -> None:
    sweep.apply(StartsHeldUp(reason="the disk is full"))
    assert sweep.held_up == "the disk is full"
    sweep.apply(StartsHeldUp())
    assert sweep.held_up == ""


def test_decisions_about_failures_are_kept(sweep: SweepOverview) -> None:
    job = sweep.jobs[0]
    sweep.apply(AttemptStarted(time=110.0, num=0, attempt=0))
    sweep.apply(AttemptLost(time=120.0, num=0, reason="killed", decision="attempt 2 of 3", after=5.0))
    assert (job.decision, job.not_before) == ("attempt 2 of 3", 125.0)
    sweep.apply(AttemptStarted(time=126.0, num=0, attempt=1))
    assert (job.decision, job.not_before) == ("", 0.0)
    sweep.apply(JobEnded(num=0, state="failed", reason="killed", decision="all are used up", log="/old/0/x.log"))
    assert (job.decision, job.log) == ("all are used up", "/new/0/x.log")
