"""`hydra.launcher.detach=slurm`: the launcher is a Slurm job, which survives preemption, and is looked after here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.cli.main import main
from tests.helpers.apps import App
from tests.helpers.slurm import Cluster, needs_slurm

pytestmark = needs_slurm

BODY = """
folder = Path(HydraConfig.get().runtime.output_dir)
checkpoint = folder / "checkpoint"
if cfg.x == 2 or checkpoint.exists():
    return int(checkpoint.read_text()) if checkpoint.exists() else cfg.x
told = []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: told.append(number))
print("ready:", cfg.x, flush=True)
while not told:
    time.sleep(0.01)
checkpoint.write_text("11")
"""
DETACH = ("hydra/launcher=elastic", "hydra.launcher.detach=slurm")


def submitted(app: App, *overrides: str, code: int = 0) -> str:
    """Start the app in a login shell, and return what it writes."""
    words = [sys.executable, str(app.path), "-m", "hydra.sweep.dir=sweep", *DETACH, *overrides]
    done = subprocess.run(
        words, cwd=app.folder, env=app.environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def job_of(said: str) -> str:
    match = re.search(r"the launcher is Slurm job (\d+)", said)
    assert match is not None, said
    return match[1]


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def wait_for_output(slurm: Cluster, folder: Path, text: str) -> None:
    output = folder / "launcher.out"
    slurm.wait_for(lambda: output.exists() and text in output.read_text(), text)


def test_the_launcher_is_a_job_that_survives_its_preemption(
    login_shell: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, folder = App(tmp_path, BODY), tmp_path / "sweep"
    job = job_of(submitted(app, "+hydra.launcher.sbatch.additional_parameters.nodelist=h1", "+x=1,2"))
    wait_for_output(login_shell, folder, "ready: 1")
    assert main(["status", str(folder)]) == 0
    login_shell.run("srun", "--partition=high", "--nodelist=h1", "--exclusive", "true")
    login_shell.wait_for_state(job, "PENDING")
    assert main(["status", str(folder)]) == 1
    assert f"its launcher is Slurm job {job}: PENDING" in capsys.readouterr().out
    assert main(["resume", str(folder)]) == 2
    assert f"its launcher is Slurm job {job}" in capsys.readouterr().err
    login_shell.start_again(job)
    login_shell.wait_for_state(job, "COMPLETED")
    ends = [(event["num"], event["state"]) for event in events(folder) if event["event"] == "end"]
    assert ends == [(0, "preempted"), (0, "finished"), (1, "finished")]


def test_a_launcher_in_the_queue_is_seen_and_cancelled(
    login_shell: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, folder = App(tmp_path, BODY), tmp_path / "sweep"
    job = job_of(submitted(app, "+hydra.launcher.sbatch.additional_parameters.begin=now+1hour", "+x=2"))
    assert main(["status", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "sweep: submitted" in said
    assert f"its launcher is Slurm job {job}: PENDING (BeginTime)" in said
    assert main(["stop", str(folder)]) == 0
    assert login_shell.wait_for_state(job, "CANCELLED")
    assert main(["status", str(folder)]) == 0
    assert "has ended and not begun" in capsys.readouterr().out
    assert not (folder / "0").exists()


def test_it_is_stopped_from_another_host(
    login_shell: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, folder = App(tmp_path, BODY), tmp_path / "sweep"
    job = job_of(submitted(app, "+x=1,3"))
    wait_for_output(login_shell, folder, "ready: 1")
    assert main(["stop", str(folder), "7"]) == 2
    assert "no job #7 runs or waits in this sweep" in capsys.readouterr().err
    assert main(["stop", str(folder), "--reason", "a typo"]) == 0
    assert "#0 is told to stop" in capsys.readouterr().out
    assert login_shell.wait_for_state(job, "COMPLETED", "FAILED", "CANCELLED")["Restarts"] == "0"
    (asked,) = [event for event in events(folder) if event["event"] == "stop_asked"]
    assert asked["reason"] == "a typo"


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (
            ["hydra.launcher.sbatch.partition=nowhere"],
            "hydra.launcher.sbatch.partition=nowhere: there is no such parti",
        ),
        (["hydra.launcher.sbatch.nodes=2"], "hydra.launcher.sbatch.nodes=2: the launcher uses one node only"),
        (["hydra.launcher.sbatch.timeout_min=1"], "hydra.launcher.sbatch.timeout_min=1: jobs are told to write"),
        (["hydra.launcher.parallel=0"], "hydra.launcher.parallel=0: must be"),
        (["hydra/launcher/hosts=slurm", "hydra.launcher.hosts.partition=nowhere"], "hosts.partition=nowhere: there is"),
    ],
)
def test_what_is_refused_is_refused_at_once(
    login_shell: Cluster, tmp_path: Path, overrides: list[str], why: str
) -> None:
    assert why in submitted(App(tmp_path, BODY), *overrides, "+x=1", code=2)
    assert login_shell.run("squeue", "--noheader") == ""
    assert not (tmp_path / "sweep").exists()
