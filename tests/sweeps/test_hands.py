"""Real sweeps, told by their control socket to stop jobs or to show stacks."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.control.client import ControlError, ask, stacks
from elastic_hydra.control.requests import Request
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App, Running

pytestmark = pytest.mark.system

BODY = """
def stand_here():
    print("ready:", cfg.x, os.environ["RANK"], flush=True)
    time.sleep(600)
if "go" in os.environ:
    return cfg.x
stand_here()
"""

TWO_AT_ONCE = (
    "+x=1,2,3",
    "hydra.launcher.nproc_per_node=2",
    "hydra.launcher.parallel=2",
    "hydra/launcher/logs=all",
)


def journal(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def wait_for_ready(sweep: Running, *jobs: int) -> None:
    sweep.wait_for(*(f"ready: {job} {rank}" for job in jobs for rank in (0, 1)))


def launcher(folder: Path) -> SweepBegan:
    *_, last = (event for _, event in Lines(folder / "journal.jsonl") if isinstance(event, SweepBegan))
    return last


def silent_client(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(f"\0{launcher(folder).control}")
    return sock


def stop(folder: Path, *jobs: int, reason: str = "") -> dict[str, Any]:
    return ask(launcher(folder), Request("stop", jobs, reason))


def shown(folder: Path, job: int) -> dict[int, str]:
    return stacks(launcher(folder), folder / "journal.jsonl", job)


@pytest.mark.smoke
def test_jobs_are_stopped_and_left_out_and_their_stacks_shown_while_the_sweep_goes_on(tmp_path: Path) -> None:
    app = App(tmp_path, BODY)
    retry = ("hydra/launcher/retry=preemptible", "hydra.launcher.retry.max_attempts=5")
    with app.started(*TWO_AT_ONCE, *retry) as sweep:
        wait_for_ready(sweep, 1, 2)
        silent = silent_client(sweep.folder)
        texts = shown(sweep.folder, 0)
        assert sorted(texts) == [0, 1]
        assert all("in stand_here" in text for text in texts.values())
        with pytest.raises(ControlError, match="#2 waits to be started"):
            shown(sweep.folder, 2)
        with pytest.raises(ControlError, match="no job #8, #9 runs or waits"):
            stop(sweep.folder, 1, 8, 9)
        assert stop(sweep.folder, 0, 2, reason="it diverges") == {"running": [0], "left_out": [2]}
        sweep.wait_for("#0 interrupted", "1 job is not started")
        assert stop(sweep.folder, 1) == {"running": [1], "left_out": []}
        stopped = sweep.finish()
        assert sweep.survivors() == []
    silent.close()
    asked = journal(stopped.folder, "stop_asked")
    assert [(line["nums"], line["left_out"], line["reason"]) for line in asked] == [
        ([0, 2], [2], "it diverges"),
        ([1], [], ""),
    ]
    ends = journal(stopped.folder, "end")
    assert [(line["num"], line["state"], line["attempts"]) for line in ends] == [
        (0, "interrupted", 1),
        (1, "interrupted", 1),
    ]
    assert "(elastic-hydra stop: it diverges)" in ends[0]["reason"]
    with pytest.raises(ControlError, match="has ended"):
        stop(stopped.folder)
    resumed = app.run(*TWO_AT_ONCE, "hydra.launcher.resume=true", environ={"go": "1"})
    assert resumed.returncode == 0, resumed.output
    assert sorted(line["num"] for line in journal(resumed.folder, "end")[2:]) == [0, 1, 2]


def test_the_sweep_is_stopped_as_by_sigterm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with App(tmp_path, BODY).started(*TWO_AT_ONCE) as sweep:
        wait_for_ready(sweep, 1, 2)
        assert main(["stacks", str(sweep.folder), "1"]) == 0
        said = capsys.readouterr().out
        assert [said.count(text) for text in ("rank 0\n", "rank 1\n", "in stand_here")] == [1, 1, 2]
        assert main(["stop", str(sweep.folder), "--reason", "the room burns"]) == 0
        assert capsys.readouterr().out == f"{sweep.folder} is told to stop\n#0, #1 are told to stop\n"
        stopped = sweep.finish()
        assert sweep.survivors() == []
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.output
    assert "2 interrupted, 1 not started" in stopped.output
    assert "the room burns" in journal(stopped.folder, "stop")[-1]["reason"]


def test_an_agent_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with App(tmp_path, BODY).started("+x=1", "hydra/launcher/logs=all", "hydra.launcher.shutdown_timeout=0") as sweep:
        sweep.wait_for("ready: 1 0")
        os.kill(int((sweep.folder / "0" / "agent.pid").read_text()), signal.SIGSTOP)
        stop(sweep.folder, 0)
        stopped = sweep.finish()
        assert sweep.survivors() == []
    (end,) = journal(stopped.folder, "end")
    assert end["state"] == "interrupted"


def test_a_launcher_that_was_killed_is_said_to_have_ended(tmp_path: Path) -> None:
    with App(tmp_path, BODY).started("+x=1", "hydra/launcher/logs=all") as sweep:
        sweep.wait_for("ready: 1 0")
        sweep.signal(signal.SIGKILL)
        assert sweep.wait_for_launcher() == -signal.SIGKILL
        with pytest.raises(ControlError, match="has ended, so nobody can be asked"):
            stop(sweep.folder)
        assert sweep.survivors() == []
