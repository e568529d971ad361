"""Processes of a sweep are killed at random, and it is resumed until it is done: in the end all is as undisturbed."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from elastic_hydra.journal import reader
from elastic_hydra.journal.writer import FILE_NAME
from tests.helpers.apps import App, Running

pytestmark = pytest.mark.system

BODY = """
import torch
import torch.distributed as dist
subprocess.Popen(["sleep", "600"], start_new_session=True)
dist.init_process_group("gloo")
total = torch.tensor(float(cfg.x))
dist.all_reduce(total)
for _ in range(3):
    time.sleep(0.05)
    dist.barrier()
dist.destroy_process_group()
return total.item()
"""
JOBS = 16
SETTINGS = [
    f"+x=range({JOBS})",
    "hydra.launcher.nproc_per_node=2",
    "hydra.launcher.parallel=2",
    "hydra.launcher.shutdown_timeout=1",
    "hydra.launcher.resume=true",
    "hydra.launcher.retry.max_restarts=3",
    "hydra.launcher.retry.max_attempts=3",
]


def everyone(sweep: Running) -> list[psutil.Process]:
    """Return the launcher, its warm server, and what that has started: agents and workers."""
    with contextlib.suppress(psutil.Error):
        launcher = psutil.Process(sweep.pid)
        return [launcher, *launcher.children(), *(p for server in launcher.children() for p in server.children())]
    return []


def harm(sweep: Running, draw: random.Random) -> str:
    """Do something to one of them: to the launcher each fifth time or so, since it takes all others along."""
    candidates = everyone(sweep)
    if not candidates:
        return ""
    victim = draw.choice(candidates[1:] + candidates[:1] * 2)
    number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    with contextlib.suppress(psutil.Error):
        victim.send_signal(number)
        return f"{number.name} to {victim.pid}"
    return ""


def drive(folder: Path, seed: int, seconds: float) -> None:
    app, draw, deeds = App(folder, BODY), random.Random(seed), []
    deadline = time.monotonic() + seconds
    done = False
    while not done:
        with app.started(*SETTINGS) as sweep:
            sweep.wait_for("#")  # a job has started, or the table says that none is left
            while time.monotonic() < deadline and sweep.ended_within(draw.uniform(0.05, 0.8)) is None:
                deeds.append(harm(sweep, draw))
            finished = sweep.finish()
            assert sweep.survivors() == [], (seed, deeds, finished.output)
        done = finished.returncode == 0
        assert done or time.monotonic() < deadline + 60, (seed, deeds, finished.output)
    jobs = reader.read(folder / "sweep" / FILE_NAME)
    assert {num: (job.state, job.value and job.value.load()) for num, job in jobs.items()} == {
        num: ("finished", 2.0 * num) for num in range(JOBS)
    }, (seed, deeds)
    assert sorted(int(path.name) for path in (folder / "sweep").iterdir() if path.is_dir()) == list(range(JOBS))


def test_a_sweep_of_short_jobs_survives_a_random_killer(tmp_path: Path) -> None:
    drive(tmp_path, seed=6, seconds=10.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_sweep_survives_many_random_killers(tmp_path: Path, seed: int) -> None:
    drive(tmp_path, seed, seconds=40.0)
