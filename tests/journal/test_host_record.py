"""Records of hosts: a launcher waits until each is gone or out of date, and says for what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.journal.host_record import HostRecord, await_end


def awaited(folder: Path, *ended: HostRecord) -> list[str]:
    """Return what is said while the records of a directory are awaited; some of the hosts end meanwhile."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        for record in ended:
            os.unlink(record.path)

    await_end(folder / "journal.jsonl", say)
    assert not list(folder.glob("*.host*"))
    return said


def record_of(folder: Path, host: str, lasts: float) -> HostRecord:
    record = HostRecord(folder / "journal.jsonl")
    record.write(host, lasts)
    return record


def test_nothing_is_awaited_where_there_is_no_record(tmp_path: Path) -> None:
    assert awaited(tmp_path) == []
    assert awaited(tmp_path / "no such folder") == []


def test_a_host_that_says_that_it_has_ended_is_not_awaited_any_longer(tmp_path: Path) -> None:
    (said,) = awaited(tmp_path, record_of(tmp_path, "n2", 600.0), record_of(tmp_path, "n1", 500.0))
    assert f"pid {os.getpid()}) is gone, and what it had started on n1, n2 may still run" in said
    assert f"600 s at most. If you know that nothing runs there any more, remove {tmp_path}/journal.host.*" in said


def test_a_host_that_says_nothing_is_awaited_to_its_end(tmp_path: Path) -> None:
    record_of(tmp_path, "n1", 1.0)
    assert len(awaited(tmp_path)) == 1


def test_a_host_that_may_live_longer_says_so(tmp_path: Path) -> None:
    record = record_of(tmp_path, "n1", 500.0)
    record.write("n1", 400.0)
    record.write("n1", 700.0)
    (said,) = awaited(tmp_path, record)
    assert "700 s at most" in said


def test_who_has_written_nothing_removes_nothing(tmp_path: Path) -> None:
    record = HostRecord(tmp_path / "journal.jsonl")
    Path(record.path).touch()
    record.remove()
    assert Path(record.path).exists()


def test_a_record_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    record = HostRecord(tmp_path / "journal.jsonl")
    Path(record.path).mkdir()
    with pytest.raises(OSError):
        record.write("n1", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == [Path(record.path).name]


def test_what_is_no_record_is_not_awaited(tmp_path: Path) -> None:
    for number, text in enumerate(("", "{}", "null", '{"host": "n1", "lasts": 9, "more": 1}')):
        (tmp_path / f"journal.host.{number}").write_text(text)
    said: list[str] = []
    await_end(tmp_path / "journal.jsonl", said.append)
    assert said == []
