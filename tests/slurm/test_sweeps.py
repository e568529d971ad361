"""Sweeps whose hosts are Slurm jobs, or the nodes of an allocation."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from elastic_hydra.journal.events import AttemptLost, AttemptStarted, Event, HostLeft, JobEnded
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import STAYS, App, Finished
from tests.helpers.slurm import Cluster, needs_slurm
from tests.slurm.batch import BatchJob

pytestmark = needs_slurm

ON_JOBS = [
    "hydra/launcher/hosts=slurm",
    "hydra.launcher.hosts.partition=graceful",
    "hydra.launcher.hosts.gpus_per_node=2",
    "hydra.launcher.nproc_per_node=1",
    "hydra.launcher.checkpoint_timeout=1",
    "hydra.launcher.shutdown_timeout=1",
    "hydra/launcher/logs=all",
    "hydra/launcher/retry=preemptible",
]


def events(folder: Path, kind: type[Event]) -> list[Any]:
    return [event for _, event in Lines(folder / "journal.jsonl") if isinstance(event, kind)]


def values(finished: Finished) -> dict[int, Any]:
    ended = events(finished.folder, JobEnded)
    assert max(Counter(event.num for event in ended).values()) == 1, "each job ends once"
    return {event.num: event.value for event in ended if event.state == "finished"}


def test_a_sweep_asks_for_jobs_and_goes_on_when_one_of_them_is_preempted(login_shell: Cluster, tmp_path: Path) -> None:
    app = App(tmp_path, STAYS)
    environ = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    with app.started(*ON_JOBS, "hydra.launcher.hosts.max=2", "+x=1,2,3", environ=environ) as running:
        running.wait_for("waits for ever", "#1 finished", "#2 finished")  # or these may be preempted, too
        (lost,) = (event.host for event in events(running.folder, AttemptStarted) if event.num == 0)
        option = ["--partition=high", f"--nodelist={lost.partition(' ')[0]}", "--gpus-per-node=2", "--time=1"]
        login_shell.run("srun", *option, "true")
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 10, 1: 20, 2: 30}
    assert [event.kind for event in events(finished.folder, AttemptLost)] == ["preempted"]
    assert "it was told to stop by SIGTERM" in {event.reason for event in events(finished.folder, HostLeft)}
    login_shell.wait_for(lambda: not login_shell.run("squeue", "--noheader"), "the end of all jobs")


def test_a_batch_script_uses_all_nodes_of_its_job(slurm: Cluster, tmp_path: Path) -> None:
    # Jobs wait until both nodes run one: the first node alone could be done with all before the other is there.
    body = """
    runs = Path(HydraConfig.get().runtime.output_dir).with_name(f"runs.{os.uname().nodename}")
    runs.touch()
    while len(list(runs.parent.glob("runs.*"))) < 2:
        time.sleep(0.02)
    return os.uname().nodename
    """
    app = App(tmp_path, body)
    overrides = ["hydra/launcher/hosts=allocation", "hydra.launcher.nproc_per_node=1", "hydra.launcher.parallel=1"]
    overrides += ["+x=1,2,3,4"]
    job = BatchJob(slurm, app, overrides, ["--nodes=2", "--gpus-per-node=2"])
    assert job.wait_for_end() == "COMPLETED", job.output()
    assert {event.host for event in events(job.folder, AttemptStarted)} == {"h1", "h2"}
    ended = events(job.folder, JobEnded)
    assert [event.state for event in ended] == ["finished"] * 4
    assert {event.value for event in ended} == {"h1", "h2"}
