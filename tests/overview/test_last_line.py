"""What a job's workers have written last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.overview.last_line import last_line


def write(log_dir: Path, restart: int, name: str, text: str, when: float) -> None:
    path = log_dir / f"restart_{restart}" / "rank_0" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo\n", "two"),
        ("one\ntw", "tw"),
        ("one\n\n  \n", "one"),
        ("\rstep 1\rstep 2\r", "step 2"),
        ("\x1b[32mgreen\x1b[0m\n", "green"),
        ("a\tb\x07\n", "a b"),
        ("", ""),
        ("x" * 20000, "x" * 8192),
    ],
)
def test_the_last_line_is_what_a_terminal_still_shows(tmp_path: Path, text: str, line: str) -> None:
    write(tmp_path, 0, "stdout.log", text, 1.0)
    assert last_line(str(tmp_path)) == line


def test_the_last_restart_and_the_newer_file_count(tmp_path: Path) -> None:
    write(tmp_path, 9, "stdout.log", "old", 5.0)
    write(tmp_path, 10, "stdout.log", "out", 1.0)
    write(tmp_path, 10, "stderr.log", "err", 2.0)
    assert last_line(str(tmp_path)) == "err"
    write(tmp_path, 10, "stderr.log", "", 3.0)
    assert last_line(str(tmp_path)) == "out"


def test_without_files_there_is_no_line(tmp_path: Path) -> None:
    assert last_line(str(tmp_path / "gone")) == ""
    (tmp_path / "restart_0").mkdir()
    assert last_line(str(tmp_path)) == ""
