"""A journal is followed while it grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.journal.codec import NewerFormat, encode
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    FailedWorker,
    JobComposed,
    JobEnded,
    JobsLeftOut,
    SweepBegan,
    SweepStopped,
    WorkersFailed,
    WorkersStarted,
)
from elastic_hydra.journal.writer import Journal
from elastic_hydra.overview.follow import Follower, is_alive
from elastic_hydra.overview.sweep import SweepOverview

COMPOSED = JobComposed(num=0, overrides=["x=1"], config='a: "b"\nc: {"d": 1}\n', dir="0")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(encode(SweepBegan(host="elsewhere")) + encode(COMPOSED))
    return path


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def test_what_was_appended_is_read_once(path: Path) -> None:
    follower = Follower(path)
    assert follower.read()
    assert not follower.read()
    append(path, encode(AttemptStarted(num=0, attempt=0)))
    assert follower.read()
    assert follower.overview.jobs[0].state == "running"


def test_half_a_line_is_left_until_it_is_whole(path: Path) -> None:
    follower = Follower(path)
    follower.read()
    line = encode(AttemptStarted(num=0, attempt=0))
    append(path, line[:20])
    assert not follower.read()
    append(path, line[20:])
    assert follower.read()
    assert (follower.overview.jobs[0].state, follower.unusable) == ("running", 0)


def test_lines_that_cannot_be_used_are_counted(path: Path) -> None:
    append(
        path, b'{"event": "start"\n{"event": "start", "num": "x"}\n\xff\n' + encode(AttemptStarted(num=0, attempt=0))
    )
    follower = Follower(path)
    follower.read()
    assert (follower.overview.jobs[0].state, follower.unusable) == ("running", 3)


@pytest.mark.parametrize("grown", [False, True])
def test_a_journal_that_was_replaced_is_read_anew(path: Path, grown: bool) -> None:
    follower = Follower(path)
    follower.read()
    other = path.with_name("other")
    lines = [encode(SweepBegan()), encode(JobComposed(num=5, overrides=[], config="", dir="5"))]
    other.write_bytes(b"".join(lines) + (b"\n" * 1000 if grown else b""))
    os.replace(other, path)
    follower.read()
    assert list(follower.overview.jobs) == [5]


def test_a_newer_journal_is_refused(path: Path) -> None:
    append(path, b'{"event": "sweep", "version": "7.1"}\n')
    with pytest.raises(NewerFormat):
        Follower(path).read()


def test_a_sweep_is_alive_while_its_journal_is_locked(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(SweepBegan())
    follower = Follower(journal.path)
    follower.read()
    assert follower.overview.alive
    os.unlink(tmp_path / "journal.lock")
    follower.read()
    assert follower.overview.alive is False


def test_without_locks_the_process_tells_on_its_own_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elastic_hydra.journal.lock.is_held", lambda path: None)
    here, journal = os.uname().nodename, tmp_path / "journal.jsonl"
    assert is_alive(journal, SweepBegan(host=here, pid=os.getpid())) is True
    assert is_alive(journal, SweepBegan(host=here, pid=1 << 30)) is False
    assert is_alive(journal, SweepBegan(host="elsewhere", pid=os.getpid())) is None


def test_the_end_of_a_job_is_seen(path: Path) -> None:
    append(path, encode(JobEnded(num=0, state="finished", reason="", value=[1, 2])))
    follower = Follower(path)
    follower.read()
    assert follower.overview.jobs[0].value == [1, 2]


def job_events(num: int) -> list[Event]:
    """Return what happens to a job that ends in its second attempt."""
    failure = FailedWorker(kind="exit", reason="exit code 3", rank=1)
    return [
        JobComposed(num=num, overrides=[f"x={num}", "y=1"], config="a: 1\n", dir=f"/old/{num}", log_dir="/old/l"),
        AttemptStarted(time=10.0, num=num, attempt=0, gpus=[0], cpus=[2], first_restart=0),
        WorkersStarted(num=num),
        WorkersFailed(time=11.0, num=num, again=True, failure=failure),
        AttemptLost(time=12.0, num=num, kind="agent", reason="killed", decision="attempt 2 of 2"),
        AttemptStarted(time=13.0, num=num, attempt=1, gpus=[1], cpus=[2], first_restart=2),
        WorkersFailed(time=14.0, num=num, attempt=1, reason="used up", failure=failure),
        JobEnded(
            time=15.0, num=num, state="failed", reason="exit code 3", seconds=5.0, attempts=2, restarts=1, log="/old/e",
        ),
    ]  # fmt: skip


BEGAN = SweepBegan(time=1.0, dir="/old")
RESUMED = SweepBegan(time=20.0, dir="/old", resume=True)
MOVED = SweepBegan(time=20.0, dir="/other", resume=True)


@pytest.mark.parametrize(
    "events",
    [
        [BEGAN, *job_events(0), *job_events(1)],
        [BEGAN, *job_events(0), RESUMED, job_events(0)[1]],
        [BEGAN, *job_events(0), RESUMED, *job_events(0)[1:]],
        [BEGAN, *job_events(0), *job_events(0)[:3], SweepStopped(time=30.0)],
        [BEGAN, *job_events(0)[1:], *job_events(1)[:2]],
        [
            BEGAN,
            *job_events(0),
            JobComposed(num=1, overrides=[], config="", dir="1"),
            JobsLeftOut(nums=[0, 1], reason="r"),
        ],
        [BEGAN, *job_events(0), BEGAN, *job_events(1)],
        [BEGAN, job_events(0)[0], job_events(1)[0], *job_events(0)],
        [BEGAN, job_events(0)[0], RESUMED, *job_events(0)[1:]],
        [BEGAN, *job_events(0), MOVED, *job_events(1), job_events(2)[0]],
        [BEGAN, job_events(0)[0], MOVED, *job_events(0)[1:]],
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_told_late_is_what_would_be_told_at_once(tmp_path: Path, events: list[Event], at_once: bool) -> None:
    overview, path = SweepOverview(str(tmp_path)), tmp_path / "journal.jsonl"
    follower = Follower(path)
    for event in events:
        overview.apply(event)
        append(path, encode(event))
        if not at_once:
            follower.read()
    follower.read()
    overview.alive = follower.overview.alive
    assert follower.overview.counts() == overview.counts()
    assert (follower.overview.state, follower.overview.last_event) == (overview.state, overview.last_event)
    for told, now in zip(follower.overview.jobs.values(), overview.jobs.values(), strict=True):
        told.be_told()
        assert {name: getattr(told, name) for name in told.__slots__} == {
            name: getattr(now, name) for name in now.__slots__
        }


def test_lines_that_cannot_be_used_are_counted_among_those_that_are_put_off(path: Path) -> None:
    composed, start = encode(JobComposed(num=1, overrides=["x=1"], config="a: 1\n", dir="1")), b'"attempt": 0'
    append(path, composed.replace(b'"x=1"', b"1"))
    append(path, composed + encode(AttemptStarted(num=1, attempt=0)).replace(start, b'"attempt": "x"'))
    follower = Follower(path)
    follower.read()
    assert (follower.overview.jobs[1].state, follower.unusable) == ("waiting", 2)


def test_a_journal_that_becomes_a_newer_one_is_read_anew_when_it_is_replaced(path: Path) -> None:
    newer = path.read_bytes() + b'{"event": "sweep", "version": "7.1"}\n'
    path.write_bytes(newer)
    follower = Follower(path)
    with pytest.raises(NewerFormat):
        follower.read()
    other = path.with_name("other")
    other.write_bytes(encode(SweepBegan()) + encode(JobEnded(num=0, state="finished", reason="")))
    os.replace(other, path)
    assert follower.read()
    assert follower.overview.jobs == {}


def test_a_job_that_was_not_told_yet_answers_as_any_other(path: Path) -> None:
    append(path, b"".join(map(encode, job_events(1))))
    follower = Follower(path)
    follower.read()
    job = follower.overview.jobs[1]
    assert (job.state, job.ended) == ("failed", 15.0)
    assert (job.first_restarts, job.attempt, job.gpus) == ({0: 0, 1: 2}, 1, [1])
    with pytest.raises(AttributeError):
        job.colour  # type: ignore[attr-defined]  # noqa: B018
