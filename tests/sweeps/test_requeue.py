"""Whether a launcher puts its Slurm job back into the queue: what Slurm says of the job decides, and what was done."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal import reader
from elastic_hydra.journal.events import AttemptStarted, Event, JobComposed, JobEnded, RequeueAsked, SweepBegan
from elastic_hydra.journal.writer import Journal
from elastic_hydra.sweeps.requeue import Requeue
from elastic_hydra.sweeps.slurm_job import SlurmJob, fate_of
from elastic_hydra.sweeps.stop import Order

RUNS = {"JobState": "RUNNING", "Restarts": "1", "Requeue": "1", "BatchFlag": "1", "Reason": "None"}
ENDS = {**RUNS, "JobState": "COMPLETING", "PreemptTime": "None"}
DIR = "sweeps/x"


@pytest.mark.parametrize(
    ("order", "known", "requeue", "reason"),
    [
        (Order(signal.SIGUSR1), RUNS, True, "SIGUSR1 has announced its end"),
        (Order(signal.SIGTERM), RUNS, False, ""),
        (Order(signal.SIGTERM), {**RUNS, "PreemptTime": "2026-11-28T13:11:55"}, True, "it is being preempted"),
        (Order(signal.SIGTERM), {**RUNS, "PreemptTime": "None"}, False, ""),
        (Order(signal.SIGTERM), {**ENDS, "Reason": "TimeLimit"}, True, "its time limit is over"),
        (Order(signal.SIGTERM), {**RUNS, "JobState": "TIMEOUT"}, True, "its time limit is over"),
        (Order(signal.SIGTERM), ENDS, False, ""),
        (Order(signal.SIGUSR1), ENDS, False, ""),
        (Order(signal.SIGTERM), {**ENDS, "Restarts": "2"}, False, "Slurm starts it again by itself"),
        (Order(signal.SIGUSR1), {**RUNS, "Requeue": "0"}, False, "it must not: submit it with --requeue"),
        (Order(signal.SIGUSR1), {**RUNS, "BatchFlag": "0"}, False, "it is no batch job, which alone can go back"),
        (Order(signal.SIGINT), RUNS, False, ""),
        (Order(signal.SIGUSR1, by="eve"), RUNS, False, ""),
    ],
)
def test_what_slurm_knows_of_the_job_decides(order: Order, known: dict[str, str], requeue: bool, reason: str) -> None:
    fate = fate_of(SlurmJob("7", 1), order, known)
    assert (fate.requeue, fate.reason[: len(reason)] if reason else fate.reason) == (requeue, reason)


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, SlurmJob("7", 0)),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2", "SLURM_PROCID": "1"}, SlurmJob("7", 2, False)),
    ],
)
def test_the_job_is_the_environment_s(environ: dict[str, str], job: SlurmJob | None) -> None:
    assert SlurmJob.of(environ) == job


@pytest.fixture
def in_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The first life after the first of a Slurm job, with a program that is called scontrol."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "scontrol").touch(0o755)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    return monkeypatch


def requeue(folder: str = DIR, mode: str = "auto") -> Requeue:
    settings: Any = OmegaConf.create({"requeue": mode, "requeue_limit": 3})
    config = DictConfig({"hydra": {"sweep": {"dir": folder}}})
    return Requeue(settings, config, "hydra.sweep.dir")


def test_outside_of_slurm_and_by_default_nothing_is_put_back(in_slurm: pytest.MonkeyPatch) -> None:
    assert requeue().job == SlurmJob("7", 1)
    assert requeue(mode="never").job is None
    in_slurm.delenv("SLURM_JOB_ID")
    assert requeue("sweeps/${now:%H}").job is None


def test_a_directory_that_the_next_life_would_not_find_is_refused(in_slurm: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"hydra.sweep.dir=sweeps/\$\{now:%H\} is another directory when Slurm job 7"):
        requeue("sweeps/${now:%H}")


def test_a_path_without_scontrol_is_refused(in_slurm: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_slurm.setenv("PATH", str(tmp_path / "no"))
    with pytest.raises(ConfigError, match="scontrol is not on PATH"):
        requeue()


@pytest.mark.parametrize(
    ("recorded", "restarts", "mode"),
    [("7", "1", "interrupted"), ("7", "", "all"), ("6", "1", "all"), ("", "1", "all")],
)
def test_a_further_life_of_the_same_job_goes_on(
    in_slurm: pytest.MonkeyPatch, tmp_path: Path, recorded: str, restarts: str, mode: str
) -> None:
    in_slurm.setenv("SLURM_RESTART_COUNT", restarts)
    Journal(tmp_path / "sweep").write(SweepBegan(task="app", slurm_job=recorded))
    assert requeue().resume_mode("all", reader.read(tmp_path / "sweep" / "journal.jsonl")) == mode


def lives_in_vain(folder: Path, *events: Event, before: int = 2, write: str = "") -> int:
    """Return how many lives without progress the launcher counts whose jobs do this."""
    journal = Journal(folder)
    journal.write(SweepBegan(task="app", slurm_job="7"))
    journal.write(JobComposed(num=0, overrides=[], config="", dir=str(folder / "0")))
    journal.write(RequeueAsked(slurm_job="7", idle=before))
    this = requeue()
    assert this.resume_mode("false", reader.read(journal.path)) == "interrupted"
    os.utime(journal.path, (1.0, 1.0))
    this.begin(journal)
    for event in (SweepBegan(task="app", slurm_job="7", resume=True), AttemptStarted(num=0, attempt=0), *events):
        journal.write(event)
    if write:
        (folder / "0" / write).parent.mkdir(parents=True)
        (folder / "0" / write).touch()
    return this._idle_lives(journal)


def test_lives_without_progress_are_counted(in_slurm: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preempted = JobEnded(num=0, state="preempted", reason="")
    finished = JobEnded(num=0, state="finished", reason="")
    assert lives_in_vain(tmp_path / "a", preempted) == 3
    assert lives_in_vain(tmp_path / "b", preempted, before=0) == 1
    assert lives_in_vain(tmp_path / "c", finished) == 0
    assert lives_in_vain(tmp_path / "d", preempted, write="checkpoints/last.pt") == 0
    for ours in (".hydra/config.yaml", "logs/restart_0/stdout.txt", "train.log"):
        assert lives_in_vain(tmp_path / ours.replace("/", "_"), preempted, write=ours) == 3
