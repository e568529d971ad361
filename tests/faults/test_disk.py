"""A disk that is full, or cannot be written to: for the logs, and for the journal."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.apps import App

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


pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not _can_mount(), reason="needs to mount a file system of its own"),
]


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
    assert "journal.jsonl cannot be written: [Errno 28] No space left on device; " in first
    assert "kB are needed there, and 0 B are free: no further job is started" in first
    assert "1 job is not started" in first
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


def test_a_full_disk_for_logs_fails_the_job_that_writes_there_and_no_other_is_started(tmp_path: Path) -> None:
    where = f"hydra.launcher.logs.dir={tmp_path}/disk"
    finished = app(tmp_path, SPEAKS).run("+x=a,fill,c", where, "hydra.launcher.nproc_per_node=2")
    assert "exit codes: 1 0" in finished.output, finished.output
    assert f"1 job is not started: {tmp_path}/disk: a job needs 65.5 kB at least, and 0 B are free" in finished.output
    ends = [line for line in lines(finished.folder / "journal.jsonl") if line["event"] == "end"]
    assert [(end["num"], end["state"]) for end in ends] == [
        (0, "finished"),
        (1, "failed"),
        (1, "finished"),
        (2, "finished"),
    ]
    assert "raised OSError: [Errno 28] No space left on device" in ends[1]["reason"]


TAKES_AWAY = """
if cfg.x == "take" and not Path("moved").exists():
    os.rename("sweep", "moved")
return cfg.x
"""


def test_a_sweep_whose_directory_is_taken_away_stops_and_says_where_its_record_is(tmp_path: Path) -> None:
    stopped = App(tmp_path, TAKES_AWAY).run("+x=a,take,c")
    assert stopped.returncode == 1, stopped.output
    assert f"was moved to {tmp_path}/moved while the sweep ran: the sweep's record is there" in stopped.output
    assert "1 job is not started" in stopped.output
    assert f"hydra.sweep.dir={tmp_path}/moved" in stopped.output
    assert ended(tmp_path / "moved" / "journal.jsonl") == [(0, "finished"), (1, "finished")]


def test_a_journal_that_cannot_be_written_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "journal.jsonl").mkdir(parents=True)
    refused = App(tmp_path, "return 1").run()
    assert refused.returncode == 2
    assert "hydra.sweep.dir=" in refused.output
    assert "journal cannot be written there" in refused.output
    assert "Traceback" not in refused.output
