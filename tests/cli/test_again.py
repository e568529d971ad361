"""`elastic-hydra resume` and `rerun`: the recorded command is run again, from wherever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import JobEnded, SweepBegan
from elastic_hydra.journal.writer import Journal
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.sweep import SweepOverview
from tests.cli.recorded import composed, record
from tests.helpers.apps import App


def began(folder: Path, cwd: Path) -> SweepBegan:
    command = ["python", "-m", "pkg.train", "-m", "x=1,2", "hydra/launcher=elastic"]
    return SweepBegan(pid=1, host="node", command=command, program=command[:3], cwd=str(cwd), dir=str(folder))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep with one job that finished and one that did not, in a moved directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    jobs = [composed(Path("/old/sweep"), 0, "x=1"), composed(Path("/old/sweep"), 1, "x=2")]
    events = [began(Path("/old/sweep"), tmp_path / "project"), *jobs, JobEnded(num=0, state="finished", reason="")]
    return record(tmp_path / "sweep", *events, begin=False)


def test_the_command_is_that_of_the_journal_in_its_directory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(folder), "--print"]) == 0
    command = f"python -m pkg.train -m x=1,2 hydra/launcher=elastic hydra.sweep.dir={folder} hydra.launcher.resume=true"
    assert capsys.readouterr().out == f"cd {folder.parent / 'project'} && {command}\n"


def test_one_job_has_a_directory_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"{folder}.rerun-1").mkdir()
    assert main(["rerun", str(folder), "1", "hydra.launcher.nproc_per_node=1", "--print"]) == 0
    said = capsys.readouterr().out
    assert "-m hydra/launcher=elastic x=2 hydra.launcher.nproc_per_node=1 hydra.sweeper.params=null" in said
    assert said.endswith(f"hydra.sweep.dir={folder}.rerun-1-2\n")  # nothing is recorded there that could be resumed
    assert not Path(f"{folder}.rerun-1-2").exists()


@pytest.mark.parametrize("arguments", [["--changed"], ["y=3"]])
def test_a_job_that_may_have_changed_is_not_compared(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["rerun", str(folder), "1", "--print", *arguments]) == 0
    assert "resume" not in capsys.readouterr().out


def test_where_all_is_done_nothing_is_started(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, JobEnded(num=1, state="finished", reason=""), begin=False)
    assert main(["resume", str(folder)]) == 0
    assert "all jobs have finished, nothing is left to run (2 of 2)" in capsys.readouterr().out


def test_what_cannot_be_run_again_says_why(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    unknown = record(tmp_path / "unknown", composed(tmp_path / "unknown", 0, "x=1"))
    assert "with hydra.sweep.dir=" in refused("resume", str(unknown))
    assert "start the app with the job's overrides: x=1" in refused("rerun", str(unknown), "0")
    assert "has no job #5" in refused("rerun", str(folder), "5")
    for taken in (tmp_path, folder / "journal.jsonl"):
        said = refused("rerun", str(folder), "1", "--dir", str(taken))
        assert said.endswith(f"{taken} is not an empty directory; choose another one\n")
    (tmp_path / "project").rmdir()
    assert "project, where the sweep was started, is gone" in refused("resume", str(folder))
    journal = Journal(folder)
    assert "its launcher still runs (process 1 on node)" in refused("resume", str(folder))
    journal.flush()


def overview(folder: Path) -> SweepOverview:
    follower = Follower(folder / "journal.jsonl")
    follower.read()
    return follower.overview


@pytest.mark.system
def test_a_sweep_is_resumed_and_a_job_run_again_from_another_directory(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    app = App(project, 'if not Path("mended").exists():\n    raise ValueError\nreturn cfg.x', module="pkg.train")
    failed = app.run("+x=1,2", "hydra.launcher.nproc_per_node=1")
    assert failed.returncode == 1, failed.output
    (project / "mended").touch()

    def run(*arguments: str) -> None:
        start = [sys.executable, "-c", "import sys; from elastic_hydra.cli.main import main; sys.exit(main())"]
        done = subprocess.run(
            [*start, *arguments], cwd=elsewhere, capture_output=True, text=True, env=app.environment(), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("resume", str(failed.folder))
    assert overview(failed.folder).counts() == {"finished": 2}
    run("rerun", str(failed.folder), "1")
    again = overview(Path(f"{failed.folder}.rerun-1"))
    assert [(job.num, job.state, job.value) for job in again.jobs.values()] == [(1, "finished", 2)]
    assert again.jobs[1].dir == f"{failed.folder}.rerun-1/1"
    assert overview(failed.folder).jobs[1].dir == f"{failed.folder}/1"
