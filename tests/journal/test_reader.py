"""What a journal says of a sweep and its jobs: line by line, up to where another launcher is at work."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import lock, reader
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    JobComposed,
    JobEnded,
    SweepBegan,
    WorkersFailed,
)
from elastic_hydra.journal.values import Value


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "sweep" / "journal.jsonl"


def write(path: Path, *written: Event) -> list[int]:
    """Write a journal, and return where each line begins, and where the last one ends."""
    path.parent.mkdir(exist_ok=True)
    offsets = [0]
    with open(path, "wb") as file:
        for event in written:
            file.write(encode(event))
            offsets.append(file.tell())
    path.chmod(0o600)
    return offsets


def composed(num: int, folder: str = "") -> JobComposed:
    return JobComposed(num=num, overrides=[f"x={num}"], config=f"x: {num}\n", dir=folder or str(num))


def finished(num: int, value: Any = None, **more: Any) -> JobEnded:
    return JobEnded(num=num, state="finished", reason="", value=value, **more)


def test_a_journal_that_is_not_there_says_nothing(journal: Path) -> None:
    record = reader.read(journal)
    assert (record, record.end, record.task, record.path) == ({}, 0, None, journal)
    assert record.folder == str(journal.parent)
    assert reader.restarts(journal, 0) == ()


@pytest.mark.parametrize(
    ("following", "state", "attempts", "reason", "value"),
    [
        ([], "waiting", 0, "", None),
        ([AttemptStarted(num=1, attempt=2)], "started", 3, "", None),
        ([AttemptLost(num=1, reason="gone")], "interrupted", 0, "gone", None),
        (
            [AttemptStarted(num=1, attempt=0), JobEnded(num=1, state="failed", reason="why", value=5)],
            "failed",
            1,
            "why",
            None,
        ),
        ([JobEnded(num=1, state="preempted", reason="why")], "preempted", 0, "why", None),
        ([finished(1, 5)], "finished", 0, "", ("value", 5)),
        ([finished(1, pickle="abc")], "finished", 0, "", ("pickle", "abc")),
        ([finished(1, 5), JobEnded(num=1, state="failed", reason="no")], "failed", 0, "no", None),
        ([finished(2, 5), AttemptStarted(num=0, attempt=0)], "waiting", 0, "", None),
        ([WorkersFailed(num=1, reason="why")], "waiting", 0, "", None),
    ],
)
def test_each_event_says_what_has_become_of_its_job(
    journal: Path, following: list[Event], state: str, attempts: int, reason: str, value: tuple[str, Any] | None
) -> None:
    offsets = write(journal, composed(1), composed(0), *following)
    record = reader.read(journal)
    assert list(record) == [1, 0]
    found = None if value is None else Value(*value, journal)
    assert record[1] == reader.Recorded(1, ["x=1"], 0, "1", state, attempts, reason, found)
    assert record[0].offset == offsets[1]
    assert record.end == offsets[-1] == journal.stat().st_size
    assert (record.config(0), record.config(1)) == ("x: 0\n", "x: 1\n")


def test_pickles_in_a_journal_that_others_can_write_are_distrusted(journal: Path) -> None:
    write(journal, composed(0), finished(0, pickle="abc"))
    journal.chmod(0o666)
    value = reader.read(journal)[0].value
    assert value is not None
    assert "chmod go-w" in value.distrust


@pytest.mark.parametrize(("resume", "jobs"), [(True, [0, 1]), (False, [1])])
def test_what_a_launcher_does_not_resume_is_forgotten(journal: Path, resume: bool, jobs: list[int]) -> None:
    write(journal, SweepBegan(task="app"), composed(0), SweepBegan(resume=resume), composed(1))
    record = reader.read(journal)
    assert (list(record), record.task) == (jobs, "app")
    write(journal, SweepBegan(task="app"), SweepBegan(task="other"))
    assert reader.read(journal).task == "other"


def test_directories_of_jobs_are_where_the_sweep_s_directory_is_now(journal: Path) -> None:
    write(
        journal,
        composed(0, "/old/0"),
        SweepBegan(resume=True, dir="/old"),
        composed(1, "/old/1/a"),
        composed(2, "/older/2"),
        composed(3, "/old"),
        SweepBegan(resume=True),
        composed(4, "/old/4"),
        SweepBegan(resume=True, dir="/new"),
        composed(5, "/old/5"),
        composed(6, "/new/6"),
    )
    here = str(journal.parent)
    found = {num: job.dir for num, job in reader.read(journal).items()}
    assert found == {
        0: "/old/0", 1: f"{here}/1/a", 2: "/older/2", 3: here, 4: f"{here}/4", 5: "/old/5", 6: f"{here}/6",
    }  # fmt: skip


def test_until_a_journal_says_where_it_was_it_was_here(journal: Path) -> None:
    write(journal, composed(0, f"{journal.parent}/0"))
    assert reader.read(journal)[0].dir == f"{journal.parent}/0"


@pytest.mark.parametrize(
    ("written", "line", "jobs"),
    [
        ([composed(0)], 0, []),
        ([SweepBegan(), composed(0)], 0, []),
        ([SweepBegan(), composed(0), SweepBegan(resume=True), composed(1), finished(0)], 2, [0]),
    ],
)
def test_what_a_launcher_writes_that_is_at_work_is_left_out(
    journal: Path, monkeypatch: pytest.MonkeyPatch, written: list[Event], line: int, jobs: list[int]
) -> None:
    offsets = write(journal, *written)
    monkeypatch.setattr(lock, "is_held_by_another", lambda path: path == journal)
    record = reader.read(journal)
    assert (list(record), record.end) == (jobs, offsets[line])
    assert {job.state for job in record.values()} <= {"waiting"}


def test_restarts_that_count_are_told_with_their_times(journal: Path) -> None:
    failures = [
        WorkersFailed(num=num, again=again, counts=counts, monotonic=float(number))
        for number, (num, again, counts) in enumerate(
            [(3, True, True), (3, False, True), (3, True, False), (4, True, True), (3, True, True)]
        )
    ]
    offsets = write(journal, *failures, WorkersFailed(num=3, again=True), composed(3))
    assert reader.restarts(journal, 3) == (0.0, 4.0)
    assert reader.restarts(journal, 3, offsets[1]) == (4.0,)
    assert reader.restarts(journal, 4) == (3.0,)
    assert reader.restarts(journal, 5) == ()


# --- a journal that cannot be read --------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replaces the clock by one that only moves when somebody sleeps."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 100.0 + sum(slept), sleep=slept.append)
    monkeypatch.setattr(reader, "time", clock)
    return slept


def failing(monkeypatch: pytest.MonkeyPatch, code: int, times: float) -> None:
    """Let the journal be unreadable so many times."""
    really: Callable[[Path], Any] = reader._read
    tries: list[Path] = []

    def read(path: Path) -> Any:
        tries.append(path)
        if len(tries) <= times:
            raise OSError(code, os.strerror(code))
        return really(path)

    monkeypatch.setattr(reader, "_read", read)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETIMEDOUT])
def test_what_may_pass_is_waited_for(
    journal: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], code: int
) -> None:
    write(journal, composed(0))
    failing(monkeypatch, code, 3)
    assert list(reader.read(journal)) == [0]
    assert waits == [0.2, 0.2, 0.2]


@pytest.mark.parametrize(("code", "longest"), [(errno.EACCES, 0.0), (errno.EIO, timeouts.JOURNAL)])
def test_what_does_not_pass_is_refused_with_what_to_do(
    journal: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], code: int, longest: float
) -> None:
    failing(monkeypatch, code, float("inf"))
    why = f"[Errno {code}] {os.strerror(code)}"
    text = (
        f"hydra.sweep.dir={journal.parent}: the sweep's journal cannot be read there ({why}). Make journal.jsonl "
        "readable for you, or choose another directory"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        reader.read(journal)
    assert longest <= sum(waits) <= longest + 0.4
