"""A journal that cannot be written for a while, or is not where it was; no processes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import files, lines, lock, reader, values, writer
from elastic_hydra.journal.events import JobComposed, JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.obstacle import Obstacle


@pytest.fixture
def record(tmp_path: Path) -> Journal:
    record = Journal(tmp_path / "sweep")
    record.write(JobComposed(num=0, overrides=[], config="", dir=""))
    return record


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "JOURNAL", 0.5)


def failing(monkeypatch: pytest.MonkeyPatch, call: str, number: int, times: int = 10**9) -> None:
    """Let a system call fail so many times."""
    real: Callable[..., Any] = getattr(os, call)
    left = [times]

    def fail(*args: Any, **kwargs: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("call", ["write", "fsync", "fstat", "stat", "pread"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOSPC, errno.EDQUOT])
def test_what_cannot_be_written_for_a_moment_is_written_later(
    record: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str, number: int
) -> None:
    failing(monkeypatch, call, number, times=2)
    record.write_end(JobEnded(num=0, state="finished", reason=""), 0.5)
    assert os.strerror(number) in record.problem
    assert record.flush_patiently()
    assert record.problem == ""
    assert "no further job is started" in caplog.messages[0]
    assert "nothing is missing in it" in caplog.messages[-1]
    found = reader.read(record.path)[0].value
    assert found is not None
    assert found.load() == 0.5


def test_what_cannot_be_written_at_all_is_given_up_after_a_while(
    record: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "write", errno.EIO)
    record.write_end(JobEnded(num=0, state="finished", reason=""), 0.5)
    assert not record.flush_patiently()
    assert record.missing()


def test_a_full_disk_is_told_with_the_space_that_is_needed(record: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=0, f_frsize=4096, f_bfree=1, f_bavail=1))
    monkeypatch.setattr(values, "open_private", lambda *args: os.open("/dev/full", os.O_WRONLY))
    record.write_end(JobEnded(num=0, state="finished", reason=""), b"x" * 30_000_000)
    assert "No space left on device; 30.0 MB are needed there, and 4.1 kB are free" in record.problem


def test_a_journal_that_was_removed_is_noticed(record: Journal) -> None:
    record.path.unlink()
    record.write_end(JobEnded(num=0, state="finished", reason=""), 0.5)
    assert "was removed while the sweep ran" in record.problem
    assert record.is_gone
    assert not record.flush_patiently()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_directory_that_was_moved_is_noticed_and_what_follows_is_recorded_there(
    record: Journal, tmp_path: Path, replaced: bool
) -> None:
    (tmp_path / "sweep").rename(tmp_path / "moved")
    if replaced:
        shutil.copytree(tmp_path / "moved", tmp_path / "sweep")
    record.write_end(JobEnded(num=0, state="finished", reason=""), 0.5)
    assert f"was moved to {tmp_path}/moved" in record.problem
    assert record.folder == tmp_path / "moved"
    assert not record.missing()
    assert '"end"' in (tmp_path / "moved" / writer.FILE_NAME).read_text()
    shutil.rmtree(tmp_path / "sweep", ignore_errors=True)
    (tmp_path / "moved").rename(tmp_path / "sweep")
    assert record.flush()
    assert record.folder == record.path.parent


def test_no_room_for_a_further_file_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_files=100, f_ffree=0, f_favail=0, f_frsize=4096, f_bfree=9999, f_bavail=9999)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert files.free(tmp_path / "not" / "there") == 0


def test_a_journal_that_cannot_be_read_for_a_moment_is_read_then(
    record: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "fstat", errno.ESTALE, times=2)
    assert list(reader.read(record.path)) == [0]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_journal_that_cannot_be_read_at_all_is_refused_in_words(
    record: Journal, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(timeouts, "JOURNAL", 0.3)

    def fail(fd: int) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lines, "distrust", fail)
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir=.*cannot be read there"):
        reader.read(record.path)


def test_a_journal_that_goes_while_nothing_is_written_keeps_the_next_job_from_starting(record: Journal) -> None:
    obstacle = Obstacle()
    obstacle.look(record, None)
    assert obstacle.blocked is None
    shutil.rmtree(record.path.parent)
    obstacle.look(record, None)
    assert obstacle.blocked is not None
    assert obstacle.blocked.lasting
    assert "was removed" in obstacle.blocked.reason


def test_a_journal_that_is_taken_back_is_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "sweep")
    journal.write(SweepBegan())
    journal.take_back()
    assert list((tmp_path / "sweep").iterdir()) == []
    Journal(tmp_path / "sweep").write(SweepBegan(pid=1))
    before = journal.path.read_bytes()
    again = Journal(tmp_path / "sweep")
    again.write(SweepBegan(pid=2))
    again.take_back()
    assert journal.path.read_bytes() == before


def test_a_lock_whose_file_is_removed_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, take = tmp_path / "journal.jsonl", lock._take

    def take_what_is_removed(fd: int) -> None:
        monkeypatch.setattr(lock, "_take", take)
        take(fd)
        (tmp_path / "journal.lock").unlink()

    monkeypatch.setattr(lock, "_take", take_what_is_removed)
    held = lock.acquire(path)
    assert held is not None
    assert files.is_at(held, tmp_path / "journal.lock")
