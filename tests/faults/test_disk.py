"""A disk that is full, or cannot be written to: for the logs, and for the journal."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.apps import App

SMALL_DISK = """
mkdir -p disk && mount -t tmpfs -o size=1m none disk || exit 99
"$@"; first=$?
rm -f disk/ballast
"$@" hydra.launcher.resume=true; second=$?
cp -r disk/. kept
echo exit codes: $first $second
"""
"""Runs a sweep on a file system of its own that nobody else sees, and resumes it when there is room again."""


def _can_mount() -> bool:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not _can_mount(), reason="needs to mount a file system of its own")


def app(folder: Path, body: str, before: str = "") -> App:
    (folder / "faults.py").write_text(Path(__file__).with_name("faults.py").read_text())
    return App(folder, body, before=before, inside=["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh"])


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal: there may be half ones, from when the disk was full."""
    found = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def ended(path: Path) -> list[tuple[int, str]]:
    return [(line["num"], line["state"]) for line in lines(path) if line["event"] == "end"]


FILLS = """
from faults import fill
with open("ran", "a") as file:
    file.write(f"{cfg.x} ")
if cfg.x == "fill" and not Path("filled").exists():
    Path("filled").touch()
    fill(Path("disk"))
    return "x" * 8000  # more than what is left of the journal's last block
return cfg.x
"""


def test_no_job_starts_whose_start_cannot_be_recorded_and_nothing_that_was_is_lost(tmp_path: Path) -> None:
    finished = app(tmp_path, FILLS).run("+x=a,fill,c", "hydra.sweep.dir=disk/sweep")
    assert "exit codes: 1 0" in finished.output, finished.output
    first, _, second = finished.output.partition("Launching 2 jobs")
    assert "journal.jsonl cannot be written ([Errno 28] No space left on device): no further job is started" in first
    assert "1 jobs are not started" in first
    assert "what is missing there will run again when the sweep is resumed" in first
    assert "3 finished" in second
    assert (tmp_path / "ran").read_text().split() == ["a", "fill", "fill", "c"]
    assert ended(tmp_path / "kept" / "sweep" / "journal.jsonl") == [(0, "finished"), (1, "finished"), (2, "finished")]


FREES = """
from faults import fill
if cfg.x == "fill":
    while not Path("free").exists():  # the other job could not start any more
        time.sleep(0.01)
    fill(Path("disk"))
    return "x" * 8000
if cfg.x == "free":
    Path("free").touch()
    while "cannot be written" not in Path("console").read_text():
        time.sleep(0.01)
    (Path("disk") / "ballast").unlink()
return cfg.x
"""


def test_a_disk_that_was_full_for_a_while_leaves_no_gap_in_the_journal(tmp_path: Path) -> None:
    (tmp_path / "console").touch()
    log = ["hydra.hydra_logging.root.handlers=[console,file]"]
    log += ["+hydra.hydra_logging.handlers.file={class: logging.FileHandler, filename: console}"]
    finished = app(tmp_path, FREES).run(
        "+x=fill,free,c", "hydra.sweep.dir=disk/sweep", "hydra.launcher.parallel=2", *log
    )
    assert "exit codes: 0 0" in finished.output, finished.output
    assert "can be written again, and nothing is missing in it" in finished.output
    assert ended(tmp_path / "kept" / "sweep" / "journal.jsonl") == [(0, "finished"), (1, "finished"), (2, "finished")]


SPEAKS = """
from faults import fill
if cfg.x == "fill" and not Path("filled").exists():
    Path("filled").touch()
    fill(Path("disk"))
print("said on a disk that may be full")
return cfg.x
"""


def test_a_full_disk_for_logs_fails_the_jobs_that_write_there_and_says_so(tmp_path: Path) -> None:
    where = f"hydra.launcher.logs.dir={tmp_path}/disk"
    finished = app(tmp_path, SPEAKS).run("+x=a,fill,c", where, "hydra.launcher.nproc_per_node=2")
    assert "exit codes: 1 0" in finished.output, finished.output
    ends = [line for line in lines(finished.folder / "journal.jsonl") if line["event"] == "end"]
    assert [end["state"] for end in ends] == ["finished", "failed", "failed", "finished", "finished"]
    assert all("raised OSError: [Errno 28] No space left on device" in end["reason"] for end in ends[1:3])


def test_a_journal_that_cannot_be_written_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "journal.jsonl").mkdir(parents=True)
    refused = App(tmp_path, "return 1").run()
    assert refused.returncode == 2
    assert "hydra.sweep.dir=" in refused.output
    assert "journal cannot be written there" in refused.output
    assert "Traceback" not in refused.output
