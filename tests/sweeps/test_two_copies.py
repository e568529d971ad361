"""No job runs twice at once, whatever is killed while jobs run on other hosts, and however soon the sweep goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from elastic_hydra.journal.events import JobEnded
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App, Finished

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ON_HOSTS = [
    "hydra.launcher.hosts.engine=tests.helpers.hosts_here",
    "hydra.launcher.nproc_per_node=1",
    "hydra.launcher.shutdown_timeout=100",
    "hydra/launcher/logs=all",
    "+x=1",
]
RESUMED = "hydra.launcher.resume=true"

ALONE = """
    import fcntl
    here = Path(HydraConfig.get().runtime.output_dir)
    with open(here / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (here / "two copies").touch()
        if not (here / "tried").exists():
            (here / "tried").touch()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("works, pid", os.getpid())
            while True:
                signal.pause()
    return cfg.x * 10
"""
"""A task whose first attempt ends by SIGKILL only, and that notices another copy of itself."""


def environ(folder: Path) -> dict[str, str]:
    return {"HOSTS_HERE": str(folder), "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def values(finished: Finished) -> dict[int, object]:
    ends = [event for _, event in Lines(finished.folder / "journal.jsonl") if isinstance(event, JobEnded)]
    return {event.num: event.value for event in ends if event.state == "finished"}


def test_a_sweep_whose_launcher_was_killed_goes_on_when_its_hosts_have_ended_all(tmp_path: Path) -> None:
    app = App(tmp_path, ALONE)
    with app.started(*ON_HOSTS, environ=environ(tmp_path)) as running:
        running.wait_for("works, pid")
        running.signal(signal.SIGKILL)
        running.wait_for_launcher()
        with app.started(*ON_HOSTS, RESUMED, environ=environ(tmp_path)) as resumed:
            resumed.wait_for(f"the launcher on host {os.uname().nodename} (pid {running.pid}) is gone", "183 s at most")
            os.kill(int(running.output.split("works, pid")[1].split()[0]), signal.SIGKILL)
            again = resumed.finish()
            assert resumed.survivors() == []
        assert running.survivors() == []
    assert again.returncode == 0, again.output
    assert values(again) == {0: 10}
    assert not (again.folder / "0" / "two copies").exists()
    assert not list(again.folder.glob("journal.host*"))
