"""What the environment says of the nodes: who has started the launcher, which variables count, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.tasks import Tasks, TasksError, first_of, tasks_of
from tests.config.settings import launch

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_PROCID": "0"}
STEP = {
    **JOB,
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n[2-3]",
    "SLURM_NODEID": "1",
}
STEP_NAMES = ("SLURM_STEP_NUM_NODES", "SLURM_NODEID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
IN_STEP = Tasks("2", 1, "n2:26033", id="slurm-7.0.0", source=STEP_NAMES)
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
OPEN_MPI_NAMES = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
PMI = {"PMI_SIZE": "2", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"}
MASTER = {"MASTER_ADDR": "a", "MASTER_PORT": "1"}
PLAIN = {**MASTER, "RANK": "1", "WORLD_SIZE": "4"}
PET = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-0", "PET_MASTER_PORT": "23456"}
PET_NAMES = ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
SAID = (
    "2 nodes, this one is 1; they meet at job-0:23456 (static): PET_NNODES=2, PET_NODE_RANK=1, PET_MASTER_ADDR=job-0, "
    "PET_MASTER_PORT=23456"
)
ELASTIC = {"PET_NNODES": "1:3", "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": "job-0:1", "PET_RDZV_ID": "x"}


@pytest.mark.parametrize(
    ("environ", "tasks"),
    [
        ({}, Tasks()),
        ({"MASTER_ADDR": "a", "RANK": "1"}, Tasks()),
        ({"PMI_RANK": "0"}, Tasks()),
        ({**JOB, "SLURM_JOB_NUM_NODES": "1"}, Tasks()),
        (STEP, IN_STEP),
        ({**STEP, **PLAIN}, IN_STEP),
        ({**STEP, "PMI_SIZE": "2", "PMI_RANK": "1"}, IN_STEP),
        (
            {**STEP, "SLURM_RESTART_COUNT": "2"},
            Tasks("2", 1, "n2:28253", id="slurm-7.0.2", source=STEP_NAMES),
        ),
        ({**STEP, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}, Tasks(source=("SLURM_STEP_NUM_NODES",))),
        (PLAIN, Tasks("4", 1, "a:1", source=("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"))),
        (OPEN_MPI, Tasks("2", 1, source=OPEN_MPI_NAMES)),
        ({**OPEN_MPI, **PLAIN}, Tasks("2", 1, "a:1", source=(*OPEN_MPI_NAMES, "MASTER_ADDR", "MASTER_PORT"))),
        ({**OPEN_MPI, **STEP}, Tasks("2", 1, "n1:26033", source=(*OPEN_MPI_NAMES, "SLURM_JOB_NODELIST"))),
        (
            {**PMI, "MASTER_ADDR": "::1"},
            Tasks("2", 0, "[::1]:29500", source=("PMI_SIZE", "PMI_RANK", "MASTER_ADDR")),
        ),
        (PET, Tasks("2", 1, "job-0:23456", source=PET_NAMES)),
        ({**PET, **OPEN_MPI, **STEP, **PLAIN}, Tasks("2", 1, "job-0:23456", source=PET_NAMES)),
        (ELASTIC, Tasks("1:3", None, "job-0:1", "c10d", "x", tuple(ELASTIC))),
    ],
)
def test_the_variables_of_whoever_has_started_the_launcher_count(environ: dict[str, str], tasks: Tasks) -> None:
    assert tasks_of(environ) == tasks


@pytest.mark.parametrize(
    ("environ", "what", "way_out"),
    [
        ({**STEP, "SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS=4", "srun --ntasks-per-node=1"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, "LOCAL_SIZE=2", "mpirun --map-by ppr:1:node"),
        ({**PMI, "MPI_LOCALNRANKS": "2"}, "MPI_LOCALNRANKS=2", "mpirun --map-by ppr:1:node"),
        ({**PLAIN, "LOCAL_WORLD_SIZE": "4"}, "LOCAL_WORLD_SIZE=4", "one process per node"),
        (JOB, "SLURM_JOB_NUM_NODES", "srun --ntasks-per-node=1"),
        ({**PLAIN, "WORLD_SIZE": "many"}, "WORLD_SIZE=many, RANK=1", "correct these variables"),
        ({**PLAIN, "WORLD_SIZE": "1"}, "WORLD_SIZE=1, RANK=1", "correct these variables"),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "0"}, "OMPI_COMM_WORLD_SIZE=0", "correct these variables"),
        ({**PET, "PET_NODE_RANK": "first"}, "PET_NODE_RANK=first", "correct that variable"),
    ],
)
def test_what_are_no_tasks_of_one_job_is_refused(environ: dict[str, str], what: str, way_out: str) -> None:
    with pytest.raises(TasksError, match=what) as caught:
        tasks_of(environ)
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[01-04,07],x", "n01"), ("a,b[1-2]", "a"), ("r[1-2]n[3,5],z", "r1n3"), ("n[3,1]-ib", "n3-ib")],
)
def test_the_first_node_of_slurm_s_list(nodes: str, first: str) -> None:
    assert first_of(nodes) == first


@pytest.mark.parametrize(
    ("environ", "changed", "nodes", "meet"),
    [
        ({}, {}, (1, 1), ("local", "", {})),
        (STEP, {}, (2, 2), ("static", "n2:26033", {"rank": 1})),
        (STEP, {"rendezvous__endpoint": "b:2"}, (2, 2), ("static", "b:2", {"rank": 1})),
        (STEP, {"rendezvous__node_rank": 0}, (2, 2), ("static", "n2:26033", {"rank": 0})),
        (STEP, {"nodes": "1:2"}, (1, 2), ("c10d", "n2:26033", {"is_host": False})),
        (STEP, {"nodes": 2, "rendezvous__join_timeout": 5}, (2, 2), ("static", "n2:26033", {"timeout": 5, "rank": 1})),
        (ELASTIC, {}, (1, 3), ("c10d", "job-0:1", {})),
    ],
)
def test_a_job_s_rendezvous_comes_from_the_environment(
    environ: dict[str, str], changed: dict[str, Any], nodes: tuple[int, int], meet: tuple[str, str, dict[str, int]]
) -> None:
    found = launch(environ=environ, rendezvous__backend="environment", **changed)
    assert (found.nodes, *vars(found.rendezvous).values()) == (nodes, *meet)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "one node: the environment has no variables of several tasks"),
        (PET, SAID),
    ],
)
def test_one_line_says_what_came_from_where(environ: dict[str, str], said: str) -> None:
    about = launch(environ=environ, rendezvous__backend="environment").about_nodes
    assert about == f"hydra/launcher/rendezvous=environment: {said}"


def test_a_launcher_that_knows_nothing_of_the_others_says_how_to_join_them() -> None:
    assert launch(environ=PET).about_nodes == (
        "this launcher is one of several (PET_NNODES=2, PET_NODE_RANK=1, PET_MASTER_ADDR=job-0, "
        "PET_MASTER_PORT=23456), each of which runs the whole sweep; "
        "hydra/launcher/rendezvous=environment makes them the nodes of one job"
    )
    for environ in ({}, JOB, {**STEP, "SLURM_STEP_NUM_TASKS": "4"}):
        assert launch(environ=environ).about_nodes == ""
    assert launch(environ=PET, nodes=2, rendezvous__backend="c10d", rendezvous__endpoint="a:1").about_nodes == ""


@pytest.mark.parametrize(
    ("environ", "changed", "message"),
    [
        (JOB, {}, "hydra.launcher.rendezvous.backend=environment: Slurm has given 3 nodes (SLURM_JOB_NUM_NODES)"),
        (
            OPEN_MPI,
            {},
            "hydra.launcher.rendezvous.endpoint='': is not in the environment, which says OMPI_COMM_WORLD_SIZE=2, OMPI",
        ),
        (STEP, {"nodes": 3}, "hydra.launcher.nodes=3: the environment says 2 (SLURM_STEP_NUM_NODES): leave the key"),
    ],
)
def test_what_the_environment_does_not_say_is_an_error(
    environ: dict[str, str], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(environ=environ, rendezvous__backend="environment", **changed)
    assert str(caught.value).startswith(message)
