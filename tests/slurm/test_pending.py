"""Why nothing runs yet: a sweep whose hosts wait in Slurm's queue says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import HostsPending
from tests.helpers.apps import App
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.test_sweeps import ON_JOBS, events

pytestmark = needs_slurm


def last_pending(folder: Path) -> int:
    """Return how many hosts wait, as the journal says it last."""
    found = events(folder, HostsPending) if (folder / "journal.jsonl").exists() else []
    return len(found[-1].hosts) if found else 0


def test_console_and_status_say_why_hosts_wait(
    login_shell: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App(tmp_path, "    return cfg.x\n")
    environ = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    later = "+hydra.launcher.hosts.additional_parameters.begin=now+36000"
    with app.started(*ON_JOBS, later, "hydra.launcher.hosts.max=2", "+x=1,2", environ=environ) as running:
        running.wait_for("2 hosts wait in the queue: BeginTime")
        login_shell.wait_for(lambda: last_pending(running.folder) == 2, "the journal")
        assert main(["status", str(running.folder)]) == 0
        assert "2 hosts wait in the queue: BeginTime (2); the first is expected at" in capsys.readouterr().out
        os.kill(running.pid, signal.SIGINT)
        running.finish()
    login_shell.wait_for(lambda: not login_shell.run("squeue", "--noheader"), "an empty queue")
