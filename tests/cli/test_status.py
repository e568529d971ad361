"""`elastic-hydra status`, on sweeps of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import AttemptStarted, JobEnded, SweepStopped
from elastic_hydra.journal.writer import Journal
from tests.cli.recorded import composed, record

FINISHED = JobEnded(time=1020.0, num=0, state="finished", reason="", seconds=10.0, value=0.25)
FAILED = JobEnded(time=1030.0, num=1, state="failed", kind="exception", reason="rank 1: ValueError: boom", seconds=9.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "multirun" / "sweep"


def test_a_sweep_with_a_failed_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, composed(folder, 0, "lr=1", "epochs=3"), composed(folder, 1, "lr=2", "epochs=3"), FINISHED, FAILED)
    assert main(["status", str(folder)]) == 1
    head, command, counts, common, _, *table = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{folder}: failed, ")
    assert (command, counts, common) == ("python train.py -m lr=1,2", "1 failed, 1 finished", "all with epochs=3")
    assert table == [
        "job  state     time   overrides  value or last line",
        "#0   finished  10 s   lr=1       0.25",
        "#1   failed    9.0 s  lr=2       rank 1: ValueError: boom",
    ]


def test_a_sweep_that_runs_shows_what_its_jobs_write(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(folder)
    record(folder, composed(folder, 0, "lr=1"), composed(folder, 1, "lr=2"), AttemptStarted(num=0, attempt=1))
    log_dir = folder / "0" / "logs" / "restart_0" / "rank_0"
    log_dir.mkdir(parents=True)
    (log_dir / "stdout.log").write_text("epoch 1\nepoch 2\n")
    assert main(["status", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "1 running, 1 waiting" in out
    assert "lr=1       epoch 2" in out
    journal.flush()


def test_a_sweep_whose_launcher_died(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(
        folder, composed(folder, 0, "lr=1"), composed(folder, 1, "lr=2"), AttemptStarted(time=1010.0, num=0, attempt=0)
    )
    assert main(["status", str(folder)]) == 1
    assert "1 lost, 1 not started" in capsys.readouterr().out


def test_a_sweep_that_was_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, composed(folder, 0), SweepStopped(time=1020.0, reason="SIGTERM"))
    assert main(["status", str(folder)]) == 1
    assert ": stopped (SIGTERM), " in capsys.readouterr().out


@pytest.mark.parametrize("verb", [["status"], ["explain"], ["export", "--csv"]])
def test_a_file_name_that_is_not_utf_8_is_shown_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    failed = replace(FAILED, num=0, reason="rank 0 raised FileNotFoundError: 'b\udcffd.npy'")
    record(folder, composed(folder, 0), failed)
    assert main([*verb, str(folder), *(["0"] if verb == ["explain"] else [])]) in (0, 1)
    assert "d.npy'" in capsys.readouterr().out


def test_only_those_that_failed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, composed(folder, 0, "lr=1"), composed(folder, 1, "lr=2"), FINISHED, FAILED)
    main(["status", str(folder), "--failed"])
    out = capsys.readouterr().out
    assert "#1 " in out
    assert "#0 " not in out


def test_many_jobs_are_counted_and_not_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [
        JobEnded(time=1020.0 + num, num=num, state="failed" if num % 10 else "finished", reason="")
        for num in range(500)
    ]
    record(folder, *(composed(folder, num, f"lr={num}") for num in range(500)), *ends)
    main(["status", str(folder)])
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "and 430 more failed, 50 more finished; --all shows them"
    assert len(out.splitlines()) < 40
    main(["status", str(folder), "--all"])
    assert len(capsys.readouterr().out.splitlines()) > 500


def test_json_has_all_jobs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, composed(folder, 0, "lr=1"), composed(folder, 1, "lr=2"), FINISHED, FAILED)
    assert main(["status", str(folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["counts"]) == ("failed", {"finished": 1, "failed": 1})
    assert [(job["num"], job["state"], job["value"], job["seconds"]) for job in said["jobs"]] == [
        (0, "finished", 0.25, 10.0),
        (1, "failed", None, 9.0),
    ]


def test_without_a_directory_the_newest_sweep_is_meant(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder, composed(folder, 0, "lr=1"), FINISHED)
    for place in (folder.parents[1], folder.parent, folder):
        monkeypatch.chdir(place)
        directory = [] if place != folder.parent else ["."]
        assert main(["status", *directory]) == 0
        assert "1 finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone"], "gone: there is no such directory"),
        (["empty"], "empty: this is no sweep's directory, no journal.jsonl is in it"),
        (["sweep/0"], "sweep/0: this is no sweep's directory, it is inside of the sweep sweep: give that one"),
        (["newer"], "newer/journal.jsonl: version 99.0 of the format, and this elastic_hydra reads versions up to"),
        ([], "there is no sweep below ./multirun or ./outputs"),
        (["--jsn"], "no such option '--jsn'"),
        (["a", "b"], "got unexpected extra argument"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "sweep/0", "newer"):
        (tmp_path / name).mkdir(parents=True)
    record(tmp_path / "sweep")
    (tmp_path / "newer" / "journal.jsonl").write_text('{"event": "sweep", "version": "99.0"}\n')
    assert main(["status", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"elastic-hydra: {said}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_there_are_no_colours_where_none_are_wanted(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    record(folder, composed(folder, 0, "lr=1"), FINISHED)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for variable, unset in (("NO_COLOR", ""), ("TERM", "xterm")):
        monkeypatch.setenv(variable, unset)
    assert main(["status", str(folder)]) == 0
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv(name, value)
    assert main(["status", str(folder)]) == 0
    assert "\x1b[" not in capsys.readouterr().out


@pytest.mark.system
def test_output_for_which_there_is_no_room_is_an_error_of_one_line(folder: Path) -> None:
    record(folder, composed(folder, 0, "lr=1"), FINISHED)
    code = "import sys; from elastic_hydra.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "export", str(folder), "--csv"]
    with open("/dev/full", "wb") as full:
        said = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr.startswith("elastic-hydra: [Errno 28] ")
    assert said.stderr.count("\n") == 1


def test_nothing_is_looked_for_from_a_directory_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    with monkeypatch.context() as context:
        context.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert main(["list", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "elastic-hydra: the present directory was removed: change into another one\n"


def test_an_unknown_verb_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["statsu"]) == 2
    assert "there is no verb statsu (did you mean status?)" in capsys.readouterr().err


LOOK = """
import sys
from elastic_hydra.cli.main import main
code = main(["status", *sys.argv[1:]])
heavy = {"cloudpickle", "hydra", "numpy", "omegaconf", "psutil", "rich", "torch", "yaml"}
print(code, sorted(heavy & {*sys.modules}))
"""


@pytest.mark.system
@pytest.mark.smoke
def test_a_sweep_is_shown_without_torch_and_hydra(folder: Path) -> None:
    record(folder, composed(folder, 0, "lr=1"), FINISHED)
    look = subprocess.run([sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=False)
    assert look.stdout.splitlines()[-1] == "0 []", look.stderr
