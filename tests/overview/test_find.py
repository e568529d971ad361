"""Where sweeps are found."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from elastic_hydra.overview.find import journals_in, sweep_around, sweeps_below


def make(folder: Path, when: float, name: str = "journal.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    os.utime(folder / name, (when, when))
    return folder


def test_the_newest_sweep_comes_first(tmp_path: Path) -> None:
    old, new = make(tmp_path / "2026" / "a", 1.0), make(tmp_path / "2025" / "b", 2.0)
    (tmp_path / "2026" / "no_sweep").mkdir()
    assert sweeps_below(tmp_path) == [new, old]
    assert sweeps_below(old) == [old]
    assert sweeps_below(tmp_path / "gone") == []


def test_neither_jobs_nor_runs_of_hydra_s_are_searched(tmp_path: Path) -> None:
    sweep = make(tmp_path / "sweep", 1.0)
    make(sweep / "0" / "inner", 2.0)
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    make(tmp_path / "run" / "inner", 3.0)
    assert sweeps_below(tmp_path) == [sweep]


def test_a_single_run_with_a_journal_is_found(tmp_path: Path) -> None:
    run = make(tmp_path / "run", 1.0)
    (run / ".hydra").mkdir()
    assert sweeps_below(tmp_path) == [run]


def test_the_first_launcher_s_journal_comes_before_those_of_other_nodes(tmp_path: Path) -> None:
    make(tmp_path, 1.0)
    make(tmp_path, 1.0, "journal.a-node.12.jsonl")
    assert [path.name for path in journals_in(tmp_path)] == ["journal.jsonl", "journal.a-node.12.jsonl"]


def test_what_is_called_like_a_journal_and_is_no_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, other = make(tmp_path / "sweep", 1.0), tmp_path / "other"
    for folder in (sweep, other):
        folder.mkdir(exist_ok=True)
        os.mkfifo(folder / "journal.pipe.1.jsonl")
        (folder / "journal.folder.1.jsonl").mkdir()
        (folder / "journal.gone.1.jsonl").symlink_to("nowhere")
        (folder / "journal.device.1.jsonl").symlink_to("/dev/zero")
        with socket.socket(socket.AF_UNIX) as listener:
            monkeypatch.chdir(folder)  # the name of a socket must be short
            listener.bind("journal.socket.1.jsonl")
    assert journals_in(sweep) == [sweep / "journal.jsonl"]
    assert journals_in(other) == []
    assert sweeps_below(tmp_path) == [sweep]


def test_the_sweep_of_a_job_is_found(tmp_path: Path) -> None:
    job = make(tmp_path / "sweep", 1.0) / "0" / "logs"
    job.mkdir(parents=True)
    assert sweep_around(job) == tmp_path / "sweep"
