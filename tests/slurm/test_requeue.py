"""A launcher that is its batch job's script survives preemption, requeue and the time limit, and nothing else does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.apps import App
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.batch import BatchJob

pytestmark = needs_slurm

BODY = """
folder = Path(HydraConfig.get().runtime.output_dir)
checkpoint = folder / "checkpoint"
if cfg.x == 0:
    raise ValueError("a real failure")
if cfg.x == 2 or checkpoint.exists():
    return int(checkpoint.read_text()) if checkpoint.exists() else cfg.x
told = []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: told.append(number))
print("ready:", cfg.x, flush=True)
while not told:
    time.sleep(0.01)
if cfg.get("checkpoint", True):
    checkpoint.write_text("11")
print("told:", signal.Signals(told[0]).name, flush=True)
"""
GUIDES = Path(__file__).parents[2] / "docs" / "guides"
AUTO = "hydra.launcher.requeue=auto"


def announce(slurm: Cluster, job: BatchJob) -> None:
    slurm.run("scancel", "--batch", "--signal=USR1", job.id)


def preempt(slurm: Cluster, job: BatchJob) -> None:
    slurm.run("srun", "--partition=high", "--nodelist=h1", "--exclusive", "true")


def requeue(slurm: Cluster, job: BatchJob) -> None:
    slurm.run("scontrol", "requeue", job.id)


def start_preemption(slurm: Cluster, job: BatchJob) -> None:
    """Submit what preempts the job; its steps are told at once, and it would end ten minutes later."""
    script = job.folder.parent / "high.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    slurm.run("sbatch", "--partition=high", "--nodelist=h1", "--exclusive", "--output=/dev/null", str(script))


def events(job: BatchJob) -> list[dict[str, Any]]:
    return [json.loads(line) for line in job.journal().read_text().splitlines()]


def ends(job: BatchJob) -> list[tuple[int, str]]:
    return [(event["num"], event["state"]) for event in events(job) if event["event"] == "end"]


@pytest.mark.parametrize(
    ("tell", "partition", "prefix", "why"),
    [
        (preempt, "low", "exec", "Slurm starts it again by itself"),
        (requeue, "low", "exec", "Slurm starts it again by itself"),
        (start_preemption, "graceful", "srun", "it is being preempted"),
    ],
)
def test_what_ends_a_job_s_life_does_not_end_its_sweep(
    slurm: Cluster, tmp_path: Path, tell: Callable[[Cluster, BatchJob], None], partition: str, prefix: str, why: str
) -> None:
    options = [f"--partition={partition}", "--nodelist=h1"]
    job = BatchJob(slurm, App(tmp_path, BODY), [AUTO, "+x=0,1,2"], options, prefix)
    job.wait_for_line("ready: 1")
    tell(slurm, job)
    slurm.start_again(job.id)
    assert job.wait_for_end() == "FAILED", job.output()  # since #0 has failed, which is no reason to run it again
    assert why in job.output()
    assert "hydra.launcher.resume=interrupted: 3 of 3 jobs are recorded, 2 to run" in job.output()
    assert ends(job) == [(0, "failed"), (1, "preempted"), (1, "finished"), (2, "finished")]
    assert [event["value"] for event in events(job) if event.get("state") == "finished"] == [11, 2]
    assert slurm.job(job.id)["Restarts"] == "1"


def test_the_page_s_script_goes_back_into_the_queue_and_goes_on(slurm: Cluster, tmp_path: Path) -> None:
    text = (GUIDES / "preemption.md").read_text()
    (script,) = [block for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) if "#SBATCH" in block]
    script = script.replace("train.py", "app.py").replace(" lr=0.1,0.03,0.01,0.003,0.001", " +x=1,2")
    options = ["--gpus-per-node=1", "--cpus-per-task=1"]  # as much as the cluster has
    job = BatchJob(slurm, App(tmp_path, BODY), [], options, script=script)
    job.wait_for_line("ready: 1")
    job.wait_for_line("#1 finished")
    announce(slurm, job)
    slurm.start_again(job.id)
    assert job.wait_for_end() == "COMPLETED", job.output()
    assert "SIGUSR1 has announced its end" in job.output()
    assert ends(job) == [(1, "finished"), (0, "preempted"), (0, "finished")]
    assert "waiting until" not in job.output()  # the first life has said that it has ended
    assert not job.journal().with_suffix(".owner").exists()


def test_a_job_that_is_cancelled_stays_ended(slurm: Cluster, tmp_path: Path) -> None:
    job = BatchJob(slurm, App(tmp_path, BODY), [AUTO, "+x=1,2"])
    job.wait_for_line("ready: 1")
    slurm.run("scancel", job.id)
    assert job.wait_for_end() == "CANCELLED", job.output()
    slurm.wait_for(lambda: not slurm.run("squeue", "--noheader"), "an empty queue")
    assert slurm.job(job.id)["Restarts"] == "0"
    assert "put back" not in job.output()


def test_a_job_without_progress_does_not_come_back(slurm: Cluster, tmp_path: Path) -> None:
    overrides = [AUTO, "hydra.launcher.requeue_limit=1", "+x=1", "+checkpoint=false"]
    job = BatchJob(slurm, App(tmp_path, BODY), overrides)
    job.wait_for_line("ready: 1")
    announce(slurm, job)
    assert job.wait_for_end() == "FAILED", job.output()
    assert "not put back into the queue: no job has finished or written a file" in job.output()
