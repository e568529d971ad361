"""What people read about a sweep and its jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from elastic_hydra.config.words import Kind
from elastic_hydra.failures.classify import Failure
from elastic_hydra.jobs.job import Job
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.overview.words import shown_path
from elastic_hydra.resources.slots import Slot
from elastic_hydra.sweeps.summary import describe, known_as, log_of
from tests.config.settings import launch

FAILURE = Failure(Kind.hang, "why", "host", 0.0, rank=1)
RANK_1, RANK_11 = "logs/rank_1/stacks.txt", "logs/rank_11/stacks.txt"


@pytest.mark.parametrize(
    ("stacks", "path"),
    [
        ((RANK_11, RANK_1), RANK_1),
        ((RANK_1, "logs/rank_1/more.txt"), RANK_1),
        ((RANK_11, "logs/rank_2/stacks.txt"), RANK_11),
    ],
)
def test_of_one_that_hung_its_own_stacks_are_named_or_the_first(stacks: tuple[str, ...], path: str) -> None:
    assert log_of(replace(FAILURE, stacks=stacks, log_dir="logs/rank_1"), Path("job")) == Path(path)


def test_what_a_worker_said_last_is_named_if_it_said_anything(tmp_path: Path) -> None:
    worker = tmp_path / "rank_1"
    worker.mkdir()
    of_worker = replace(FAILURE, log_dir=str(worker))
    assert log_of(of_worker, tmp_path) is None
    assert log_of(FAILURE, tmp_path / "gone") is None
    (worker / "stderr.log").touch()
    assert log_of(of_worker, tmp_path) == worker
    (worker / "stderr.log").write_text("!")
    assert log_of(of_worker, tmp_path) == worker / "stderr.log"
    assert log_of(FAILURE, tmp_path) == tmp_path


def test_a_job_is_known_by_its_number_and_what_the_task_was_told() -> None:
    assert known_as(3, ["lr=0.1", "hydra.launcher.nodes=2", "+seed=1"]) == "#3 (lr=0.1 +seed=1)"


def test_a_path_is_shown_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b") == "a/b"
    assert shown_path(tmp_path.parent / "a") == str(tmp_path.parent / "a")


JOB = Job(0, [], OmegaConf.create(), launch(), Path("/out/0"), "run-0")
ALONE = """\
    nodes: 1
    workers per node: 1
    rendezvous: local
    threads per worker: 8
    restarts: at most 0
    directory: /out/0"""
BESIDE_OTHERS = """\
    nodes: 1 to 3
    workers per node: 2
    rendezvous: c10d head:29400
    threads per worker: as the binding or the environment says
    restarts: at most 4
    GPUs: 0-1,3
    CPUs: 0-2
    memory: 1.5 GB
    directory: /out/0
    rank  CPUs  cores  threads  why
       0  0-1       1        2  because
       1  2         1        -  too"""


def test_a_job_alone_is_described_by_what_it_is() -> None:
    assert describe(JOB, Slot(), []) == ALONE


def test_a_job_beside_others_is_described_with_what_it_holds_and_is_bound_to() -> None:
    wanted = launch(
        nodes="1:3",
        nproc_per_node=2,
        rendezvous__backend="c10d",
        rendezvous__endpoint="head:29400",
        omp_num_threads=None,
        retry__max_restarts=4,
    )
    slot = Slot((0, 1, 3), Allowance(frozenset([0, 1, 2]), frozenset([0])), 1_460_000_000)
    bindings = [Binding((0, 1), threads=2, cores=1, why="because"), Binding((2,), cores=1, why="too")]
    assert describe(replace(JOB, launch=wanted), slot, bindings) == BESIDE_OTHERS
