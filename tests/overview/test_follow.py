"""A journal is followed while it grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.journal.codec import NewerFormat, encode
from elastic_hydra.journal.events import AttemptStarted, JobComposed, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from elastic_hydra.overview.follow import Follower, is_alive

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
