"""No job runs twice at once, whatever is killed while jobs run on other hosts, and however soon the sweep goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from elastic_hydra.journal.events import JobEnded
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App, Finished, Running
from tests.helpers.hosts_here import NAMES, pid_of

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ON_HOSTS = [
    "hydra.launcher.hosts.engine=tests.helpers.hosts_here",
    "hydra.launcher.nproc_per_node=1",
    "hydra.launcher.shutdown_timeout=100",
    "hydra/launcher/logs=all",
    "+x=1",
]
IN_CHAOS = [
    *ON_HOSTS[:2],
    "hydra.launcher.shutdown_timeout=3",
    "hydra/launcher/logs=all",
    "hydra/launcher/retry=preemptible",
    "+x=1,2,3,4",
]
RESUMED = "hydra.launcher.resume=true"

LOCKED = """
    import fcntl, random
    here = Path(HydraConfig.get().runtime.output_dir)
    with open(here / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (here / "two copies").touch()
"""
"""The begin of a task that notices another copy of itself."""

ALONE = f"""{LOCKED}        if not (here / "tried").exists():
            (here / "tried").touch()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("works, pid", os.getpid())
            while True:
                signal.pause()
    return cfg.x * 10
"""
"""A task whose first attempt ends by SIGKILL only, and that notices another copy of itself."""


BUSY = f"""{LOCKED}        if random.Random(os.getpid()).random() < 0.5:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("works", flush=True)
        time.sleep(2)
    return cfg.x * 10
"""
"""A task that takes a while, some attempts of which end by SIGKILL only, and that notices another copy of itself."""


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {**more, "HOSTS_HERE": str(folder), "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


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


def way_to_host(folder: Path, place: str) -> list[psutil.Process]:
    """Return what leads from a launcher to the workers on a host: relay, host process, warm server."""
    way: list[psutil.Process] = []
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        way.append(psutil.Process(pid_of(folder, place)))
        while len(way) < 3 and (children := way[-1].children()):
            way.append(children[0])
    return way


def disturb(dice: random.Random, folder: Path, launcher: Running) -> str:
    """Kill or stop something of a sweep; return what."""
    victim = dice.choice(["launcher", "relay", "host process", "server"])
    number = dice.choice([signal.SIGKILL, signal.SIGSTOP])
    if victim == "launcher":
        launcher.signal(number)
        return f"{number.name} to the launcher"
    place, at = dice.choice(NAMES[:2]), ["relay", "host process", "server"].index(victim)
    way = way_to_host(folder, place)
    if len(way) <= at or (at > 0 and any(each.status() == psutil.STATUS_STOPPED for each in way[1:])):
        return "nothing"  # where both host process and server hear nothing, nobody ends the workers: see limits.md
    way[at].send_signal(number)
    return f"{number.name} to the {victim} of {place}"


def run_with_disturbances(folder: Path, seed: int, lives: int = 3) -> list[str]:
    """Run a sweep to its end through random deaths, resuming it at once whenever its launcher is gone.

    Args:
        folder: of the app.
        seed: of the dice.
        lives: how many launchers die.

    Returns:
        what has happened.
    """
    dice, app, happened = random.Random(seed), App(folder, BUSY), []
    around = environ(folder, HOSTS_HERE_RELAY="1")
    with contextlib.ExitStack() as all_lives:
        for _ in range(lives):
            running = all_lives.enter_context(
                app.started(*IN_CHAOS, RESUMED, "hydra.launcher.hosts.silence=5", environ=around)
            )
            with contextlib.suppress(AssertionError):  # it may end without, if all is done
                running.wait_for("works")
            for _ in range(dice.randint(1, 3)):
                time.sleep(dice.uniform(0.0, 2.0))
                with contextlib.suppress(psutil.Error):
                    happened.append(disturb(dice, folder, running))
            running.signal(signal.SIGKILL)
            running.wait_for_launcher()
        for _ in range(5):
            last = app.run(*IN_CHAOS, RESUMED, environ=around)
            if last.returncode == 0:
                break
        happened.append(last.output)
        assert values(last) == {num: (num + 1) * 10 for num in range(4)}, happened
    assert not list(folder.glob("sweep/*/two copies")), happened
    return happened


def test_nothing_runs_twice_whatever_is_killed_or_stopped(tmp_path: Path) -> None:
    run_with_disturbances(tmp_path, seed=25, lives=1)
