"""How long a host will be there, by what Slurm says of its job."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from elastic_hydra.hosts.time_left import in_seconds, time_left


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4:54", 294), ("1:00:00", 3600), ("1-02:03:04", 93784), ("0:00", 0), ("UNLIMITED", None), ("INVALID", None)],
)
def test_slurms_times_are_read(text: str, seconds: float | None) -> None:
    assert in_seconds(text) == seconds


def test_outside_of_slurm_nothing_ends() -> None:
    assert time_left({}) is None


def test_newer_slurm_says_it_in_the_environment() -> None:
    left = time_left({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 1000)})
    assert left is not None
    assert 0 < left <= 1000


@pytest.mark.system
def test_older_slurm_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$*" = "--noheader --jobs=7 --format=%L" ] && echo 1:00:00\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert time_left({"SLURM_JOB_ID": "7"}) == 3600


@pytest.mark.system
def test_where_slurm_cannot_be_asked_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert time_left({"SLURM_JOB_ID": "7"}) is None
