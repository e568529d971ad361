"""`hydra.launcher.detach=local`: the launcher outlives its terminal, and what is refused is refused in the terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import elastic_hydra
from elastic_hydra.cli.main import main
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.events import AttemptStarted
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App, Running, interrupted
from tests.helpers.terminals import Terminal

pytestmark = pytest.mark.system

BODY = """
while not Path("go").exists():
    time.sleep(0.01)
return cfg.x
"""
SHELL = ("bash", "-c", '"$@"; echo "returned $?"; read line', "shell")
"""A shell that has the terminal and runs a command, and then waits for the next one."""
CLI = [sys.executable, "-c", "import sys; from elastic_hydra.cli.main import main; sys.exit(main())"]
DETACH = "hydra.launcher.detach=true"


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def ends(folder: Path) -> list[tuple[int, str]]:
    return [(event["num"], event["state"]) for event in events(folder) if event["event"] == "end"]


def await_start(running: Running) -> None:
    """Wait for the first job: the command returns before it."""
    while not any(isinstance(event, AttemptStarted) for _, event in Lines(running.folder / "journal.jsonl")):
        assert running.processes(), (running.folder / "launcher.out").read_text()
        time.sleep(0.05)


def end_of_launcher(running: Running) -> None:
    assert running.survivors(within=120) == []


@pytest.mark.smoke
def test_the_command_returns_and_the_sweep_outlives_the_terminal(tmp_path: Path) -> None:
    app = App(tmp_path, BODY, inside=SHELL)
    with Terminal(columns=200, rows=40) as terminal, app.started(DETACH, "+x=1,2", terminal=terminal) as running:
        terminal.wait_for_text("returned 0", "sweep: the launcher runs behind the terminal (process ")
        terminal.close()
        assert running.wait_for_launcher() == -signal.SIGHUP  # the shell
        (tmp_path / "go").touch()
        end_of_launcher(running)
        assert ends(running.folder) == [(0, "finished"), (1, "finished")]
        assert events(running.folder)[0]["output"] == str(running.folder / "launcher.out")
        assert "#1 finished: 2" in (running.folder / "launcher.out").read_text()


def test_it_is_stopped_and_resumed_from_another_shell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with App(tmp_path, BODY).started(DETACH, "+x=1,2") as running:
        assert running.finish().returncode == 0
        await_start(running)
        assert main(["stop", str(running.folder)]) == 0
        end_of_launcher(running)
        assert ends(running.folder) == [(0, "interrupted")]
        (tmp_path / "go").touch()
        resume = [*CLI, "resume", str(running.folder)]
        assert subprocess.run(resume, env=running.environ, check=False).returncode == 0
        end_of_launcher(running)
    assert ends(running.folder)[1:] == [(0, "finished"), (1, "finished")]
    assert capfd.readouterr().out.count("the launcher runs behind the terminal") == 1
    assert main(["logs", str(running.folder), "--launcher", "--follow", "--grep", "2 finished"]) == 0
    assert capfd.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["hydra.launcher.nproc_per_node=0"], "hydra.launcher.nproc_per_node=0: must be 1 or more"),
        (["hydra.launcher.preload=[nowhere]"], "hydra.launcher.preload=nowhere: cannot be imported"),
        (["hydra.launcher.parallel=0"], "hydra.launcher.parallel=0: must be"),
    ],
)
def test_what_is_refused_is_refused_in_the_terminal(tmp_path: Path, overrides: list[str], why: str) -> None:
    finished = App(tmp_path, BODY).run(DETACH, "+x=1,2", *overrides)
    assert finished.returncode == 2
    assert why in finished.output
    assert not (finished.folder / "launcher.out").exists()
    assert "elastic-hydra status" not in finished.output


def test_an_app_that_ends_by_itself_before_the_sweep_says_so(tmp_path: Path) -> None:
    before = "import os, sys\nif 'ELASTIC_HYDRA_DETACHED_OUTPUT' in os.environ:\n    sys.exit('no data')"
    finished = App(tmp_path, BODY, before=before).run(DETACH, "+x=1")
    assert finished.returncode == 1
    assert finished.output.endswith("no data\n")
    assert "elastic-hydra status" not in finished.output
    assert not finished.folder.exists()


def test_ctrl_c_before_it_has_begun_stops_it(tmp_path: Path) -> None:
    before = """
    import os, time
    if 'ELASTIC_HYDRA_DETACHED_OUTPUT' in os.environ:
        open('starts', 'w').close()
        time.sleep(600)
    """
    with App(tmp_path, BODY, before=before).started(DETACH, "+x=1") as running:
        while not (tmp_path / "starts").exists():
            assert running.ended_within(0.1) is None
        running.signal(signal.SIGINT)
        finished = running.finish()
        assert interrupted(finished.returncode)
        assert "elastic-hydra status" not in finished.output
        assert "Traceback" not in finished.output
        assert running.survivors() == []


def test_a_single_run_is_detached_alike(tmp_path: Path) -> None:
    with App(tmp_path, BODY, single=True).started(DETACH, "+x=1") as running:
        assert running.finish().returncode == 0
        (tmp_path / "go").touch()
        end_of_launcher(running)
        assert ends(running.folder) == [(0, "finished")]


def test_a_dry_run_stays_in_the_terminal(tmp_path: Path) -> None:
    finished = App(tmp_path, BODY).run(DETACH, "+x=1", "hydra.launcher.dry_run=true")
    assert finished.returncode == 0
    assert "#0 : +x=1" in finished.output


def task(config: Any) -> None:
    raise AssertionError("it was refused")


def test_what_python_code_launches_cannot_be_detached() -> None:
    with pytest.raises(ConfigError, match="Python code or a notebook has started this one"):
        elastic_hydra.sweep(task, [DETACH]).results()
