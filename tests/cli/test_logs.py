"""`elastic-hydra logs`: which files are shown, and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import AttemptLost, AttemptStarted, FailedWorker, JobEnded, WorkersFailed
from elastic_hydra.journal.writer import Journal
from tests.cli.recorded import composed, record


def write(folder: Path, restart: int, rank: int, stdout: str = "", stderr: str = "") -> None:
    place = folder / "0" / "logs" / f"restart_{restart}" / f"rank_{rank}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "stdout.log").write_text(stdout)
    (place / "stderr.log").write_text(stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep with a job of two attempts and three starts of its workers, of which rank 1 failed at last."""
    failure = FailedWorker(kind="exception", reason="rank 1 raised", rank=1)
    folder = record(
        tmp_path / "sweep",
        composed(tmp_path / "sweep", 0, "lr=1"),
        AttemptStarted(num=0, attempt=0, first_restart=0),
        WorkersFailed(num=0, again=True, failure=failure),
        AttemptLost(num=0, reason="the agent was killed"),
        AttemptStarted(num=0, attempt=1, first_restart=2),
        WorkersFailed(num=0, attempt=1, failure=failure),
        JobEnded(num=0, state="failed", reason="rank 1 raised", attempts=2, restarts=1),
    )
    write(folder, 0, 0, "first\n")
    write(folder, 1, 0, "second\n")
    write(folder, 2, 0, "epoch 1\nloss 0.5\n", "a warning\n")
    write(folder, 2, 1, "epoch 1\n", "boom")
    return folder


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["0"], "epoch 1\n==> stderr <==\nboom"),
        ([], "epoch 1\n==> stderr <==\nboom"),
        (["0", "--rank=0"], "epoch 1\nloss 0.5\n==> stderr <==\na warning\n"),
        (["0", "-r", "all"], "rank 0: epoch 1\nrank 0: loss 0.5\nrank 0: a warning\nrank 1: epoch 1\nrank 1: boom\n"),
        (["0", "-r", "all", "--grep", "^b|loss"], "rank 0: loss 0.5\nrank 1: boom\n"),
        (["0", "--attempt=1"], "second\n"),
        (["0", "--restart=0"], "first\n"),
        (["#0", "--attempt=2", "--rank=1", "-g", "boom"], "==> stderr <==\nboom\n"),
    ],
)
def test_what_is_shown(
    folder: Path, capsysbinary: pytest.CaptureFixture[bytes], arguments: list[str], shown: str
) -> None:
    assert main(["logs", str(folder), *arguments]) == 0
    assert capsysbinary.readouterr().out.decode() == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["7"], "has no job #7: its only job is #0"),
        (["x"], "JOB=x: must be the number of a job"),
        (["0", "--rank=9"], "--rank=9: #0 has logs of rank 0 to 1"),
        (["0", "--rank=zero"], "--rank=zero: #0 has logs of"),
        (["0", "--attempt=3"], "--attempt=3: there was 2 attempts at #0"),
        (["0", "--attempt=0"], "invalid value for '-a' / '--attempt'"),
        (["0", "--restart=5"], "--restart=5: #0 has restart 0 to 2"),
        (["0", "--grep=("], "--grep=(: this is no regular expression"),
    ],
)
def test_what_is_not_there_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["logs", str(folder), *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_job_that_was_not_started_has_no_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, composed(tmp_path, 0), composed(tmp_path, 1), AttemptStarted(num=1, attempt=0))
    assert main(["logs", str(tmp_path), "0"]) == 2
    assert "it was not started" in capsys.readouterr().err
    assert main(["logs", str(tmp_path), "1"]) == 2
    assert "logs=console sends all to the console" in capsys.readouterr().err
    (tmp_path / "1" / "logs" / "restart_0" / "rank_0").mkdir(
        parents=True
    )  # as workers have it that write to the console
    assert main(["logs", str(tmp_path), "1"]) == 2
    assert "logs=console sends all to the console" in capsys.readouterr().err
    assert main(["logs", str(tmp_path)]) == 2
    assert "JOB is missing" in capsys.readouterr().err


@pytest.mark.system
def test_a_job_is_followed_through_a_restart_until_it_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path)  # so that the launcher counts as alive
    record(tmp_path, composed(tmp_path, 0), AttemptStarted(num=0, attempt=0, first_restart=0))
    write(tmp_path, 0, 0, "first ")
    follow = [sys.executable, "-c", "from elastic_hydra.cli.main import main; main()", "logs", str(tmp_path), "-f"]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == "first "
        with open(tmp_path / "0" / "logs" / "restart_0" / "rank_0" / "stdout.log", "a") as file:
            file.write("line\n")
        assert process.stdout.readline() == "line\n"
        write(tmp_path, 1, 0, "again\n")
        assert process.stdout.readline() == "==> restart_1 <==\n"
        assert process.stdout.readline() == "again\n"
        with open(journal.path, "ab") as file_:
            file_.write(encode(JobEnded(num=0, state="finished", reason="")))
        assert process.stdout.read() == ""
    assert process.returncode == 0
