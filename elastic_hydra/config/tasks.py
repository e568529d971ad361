"""Where nodes meet, as the environment says it: a launcher that was started as a task on each of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Tasks", "TasksError", "tasks_of"]

_DEFAULT_PORT = "29500"
"""torch's, for whoever says where node 0 is but not at which port."""


class TasksError(ValueError):
    """The tasks cannot be the nodes of one job; the text says what to do."""


@dataclass(frozen=True)
class Tasks:
    """What whoever has started this launcher on several nodes says about them."""

    nodes: str = "1"
    """How many nodes: a number, or `MIN:MAX`."""
    node_rank: int | None = None
    """Which of them this one is; None: not told."""
    endpoint: str = ""
    """`HOST:PORT` where they meet; empty: not told."""
    backend: str = ""
    """Empty: not told."""
    id: str | None = None
    """Name of the sweep for its nodes; None: not told."""
    source: tuple[str, ...] = ()
    """Names of the variables that say so."""


def tasks_of(environ: Mapping[str, str]) -> Tasks:
    """Find out which node of how many this one is.

    Variables that are meant for launchers of workers come first, as Kubeflow's. Then those of MPI: its daemons, which
    it starts by Slurm or another scheduler, hand that one's variables on, and these count daemons. The weakest are
    MASTER_ADDR, RANK and WORLD_SIZE, which many programs set.

    Args:
        environ: the environment variables of this process.

    Returns:
        the tasks; one node without any variable, if nothing is said.

    Raises:
        TasksError: several tasks are on one node, what was started is no task, or the variables do not make sense.
    """
    for found in _SOURCES:
        if (tasks := found(environ)) is not None:
            _check(tasks, environ)
            return tasks
    return Tasks()


def _check(tasks: Tasks, environ: Mapping[str, str]) -> None:
    """Refuse a number of nodes that is none, and a rank that none of them has."""
    numbers = re.fullmatch("(?:[0-9]{1,6}:)?([0-9]{1,6})", tasks.nodes)
    if numbers is None or int(numbers[1]) <= (tasks.node_rank or 0):
        told = ", ".join(f"{name}={environ[name]}" for name in tasks.source)
        raise TasksError(
            f"the environment says {told}, which must be a number of nodes, and which of them this one is, from 0: "
            "correct these variables, or unset them where there is one node"
        )


def _torchrun(environ: Mapping[str, str]) -> Tasks | None:
    """torchrun's options as variables, which Kubeflow's PyTorchJob and TrainJob set."""
    names = ("PET_NNODES", "PET_NODE_RANK", "PET_RDZV_BACKEND", "PET_RDZV_ENDPOINT", "PET_RDZV_ID")
    nodes, _, backend, endpoint, run_id = (environ.get(name, "").strip() for name in names)
    if not nodes:
        return None
    used = [name for name in names if environ.get(name, "").strip()]
    if backend == "static" or not endpoint:
        backend = ""
        master, used_for_master = _master(environ, "PET_MASTER_ADDR", "PET_MASTER_PORT")
        endpoint, used = master or endpoint, [*used, *used_for_master]
    return Tasks(nodes, _rank(environ, "PET_NODE_RANK"), endpoint, backend, run_id or None, tuple(used))


def _open_mpi(environ: Mapping[str, str]) -> Tasks | None:
    prefix = "OMPI_COMM_WORLD"
    return _mpi(environ, f"{prefix}_SIZE", f"{prefix}_RANK", f"{prefix}_LOCAL_SIZE", "OMPI_MCA_ess_base_jobid")


def _other_mpi(environ: Mapping[str, str]) -> Tasks | None:
    """What MPICH, Intel MPI and others that have their process manager say."""
    if environ.get("SLURM_STEP_NUM_TASKS") == environ.get("PMI_SIZE"):
        return None  # it is srun itself that says this, or mpirun with one task for each of srun's
    return _mpi(environ, "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "PMI_JOBID")


def _mpi(environ: Mapping[str, str], size: str, rank: str, local_size: str, job: str) -> Tasks | None:
    if size not in environ or rank not in environ:
        return None
    if environ.get(local_size, "1") != "1":
        raise TasksError(_SEVERAL.format("mpirun", f"{local_size}={environ[local_size]}", "mpirun --map-by ppr:1:node"))
    endpoint, used = _master(environ, "MASTER_ADDR", "MASTER_PORT")
    if not endpoint and (nodes := environ.get("SLURM_JOB_NODELIST")):
        endpoint, used = f"{first_of(nodes)}:{_port(_slurm_id(environ, job))}", ["SLURM_JOB_NODELIST"]
    return Tasks(environ[size], _rank(environ, rank), endpoint, source=(size, rank, *used))


def _slurm(environ: Mapping[str, str]) -> Tasks | None:
    """What srun says to its tasks. A batch script has the variables of the job, but not those of a step."""
    count, nodes = environ.get("SLURM_STEP_NUM_TASKS"), environ.get("SLURM_STEP_NUM_NODES")
    names, rank = environ.get("SLURM_STEP_NODELIST"), environ.get("SLURM_NODEID")
    if not (count and nodes and names and rank):
        allocated = environ.get("SLURM_JOB_NUM_NODES", "1")
        if allocated != "1":
            raise TasksError(
                f"Slurm has given {allocated} nodes (SLURM_JOB_NUM_NODES), and this is no task of a step: start the "
                "launcher by srun --ntasks-per-node=1"
            )
        return None
    if count != nodes:
        raise TasksError(
            _SEVERAL.format(
                "srun", f"SLURM_STEP_NUM_TASKS={count}, SLURM_STEP_NUM_NODES={nodes}", "srun --ntasks-per-node=1"
            )
        )
    if nodes == "1":
        return Tasks(source=("SLURM_STEP_NUM_NODES",))
    run = _slurm_id(environ, "SLURM_STEP_ID")
    used = ("SLURM_STEP_NUM_NODES", "SLURM_NODEID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID")
    return Tasks(nodes, _rank(environ, "SLURM_NODEID"), f"{first_of(names)}:{_port(run)}", id=run, source=used)


def _plain(environ: Mapping[str, str]) -> Tasks | None:
    """What operators of clusters set for the launcher of each node, as for the processes of one node each."""
    if not environ.keys() >= {"MASTER_ADDR", "RANK", "WORLD_SIZE"}:
        return None
    endpoint, used = _master(environ, "MASTER_ADDR", "MASTER_PORT")
    if environ.get("LOCAL_WORLD_SIZE", "1") != "1":
        what = f"LOCAL_WORLD_SIZE={environ['LOCAL_WORLD_SIZE']}"
        raise TasksError(_SEVERAL.format("the environment", what, "one process per node"))
    return Tasks(environ["WORLD_SIZE"], _rank(environ, "RANK"), endpoint, source=("WORLD_SIZE", "RANK", *used))


_SOURCES: tuple[Callable[[Mapping[str, str]], Tasks | None], ...] = (_torchrun, _open_mpi, _other_mpi, _slurm, _plain)
"""Who may have started the launcher; the first one whose variables are there counts."""

_SEVERAL = (
    "{} has started several launchers on one node ({}), and one launcher per node starts all its workers: start it by "
    "{}, and set hydra.launcher.nproc_per_node"
)


def _master(environ: Mapping[str, str], address: str, port: str) -> tuple[str, list[str]]:
    """Return the endpoint that two variables say, and their names; empty: they say none."""
    host = environ.get(address, "").strip()
    if not host:
        return "", []
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{environ.get(port, _DEFAULT_PORT)}", [name for name in (address, port) if name in environ]


def _rank(environ: Mapping[str, str], name: str) -> int | None:
    """Return the rank that a variable says; None: it is not set, or empty."""
    text = environ.get(name, "").strip()
    if text and not re.fullmatch("[0-9]{1,6}", text):
        raise TasksError(f"{name}={text}, which must be a node's rank, from 0: correct that variable, or unset it")
    return int(text) if text else None


def _slurm_id(environ: Mapping[str, str], step: str) -> str:
    """Name this life of a Slurm job, and what runs in it."""
    parts = (environ.get("SLURM_JOB_ID"), environ.get(step), environ.get("SLURM_RESTART_COUNT"))
    return "slurm-" + ".".join(part or "0" for part in parts)


def _port(run: str) -> int:
    """Choose a port, the same on all nodes, below those that the kernel gives away; two runs seldom have the same."""
    return 20000 + zlib.crc32(run.encode()) % 12000


def first_of(nodes: str) -> str:
    """Return the first name of a list of Slurm's, such as `node[01-04,07],other`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0] if first else nodes)
