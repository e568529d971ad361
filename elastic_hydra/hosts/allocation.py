"""Hosts of an allocation: all nodes of the Slurm job that the launcher is in, each reached by a step of that job.

::

    launcher (batch script, salloc, srun --pty)
      ├─ srun -w n1 ══ slurmstepd on n1 ── host process
      └─ srun -w n2 ══ slurmstepd on n2 ── host process

The steps overlap with all others, so that a step of the user's can still run beside them. They get all of the job's
CPUs, memory and GPUs on their node. When the job ends, so do the hosts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.advised import FOUND, python_advice
from elastic_hydra.hosts.slurm_commands import answer_of, require_programs
from elastic_hydra.hosts.srun import SrunTransport, srun_environment
from elastic_hydra.hosts.transport import host_command

__all__ = ["AllocationEngine", "engine"]

_KEY = "hydra.launcher.hosts.engine=allocation"
_OPTIONS = ("-N1", "-n1", "--overlap", "--export=ALL", "--cpu-bind=none", "--mem=0", "--mpi=none")
_ADVICE = {
    r"Node failure on (\S+)": f"Slurm has lost the node {FOUND}: its jobs are tried again as hydra.launcher.retry says",
    r"Job/step already completing|has expired|Invalid job id": "the allocation has ended: ask for another one",
    r"Requested nodes are busy|Unable to create step": (
        "Slurm gives no step on {place}: this site may forbid steps that overlap; `squeue --steps` lists those that "
        "run in the allocation"
    ),
}


def engine(keys: HostsConfig) -> AllocationEngine:
    """Return the nodes of the allocation that this process is in.

    Raises:
        ConfigError: it is in none, or they cannot be found out.
    """
    require_programs("allocation", "srun", "scontrol")
    return AllocationEngine(_nodes(os.environ), keys.python or "", keys.max)


@dataclass(frozen=True)
class Node:
    """A node of the allocation."""

    name: str
    job: str
    """The job's id, or that of the component of a heterogeneous job."""
    component: int | None = None
    """The number of that component."""
    gpus: int = 0
    """How many the job has there."""

    def options(self) -> list[str]:
        """Return the options of srun for a step with all that the job has on the node."""
        component = [] if self.component is None else [f"--het-group={self.component}"]
        gpus = [f"--gpus-per-node={self.gpus}"] if self.gpus else []
        return [*component, *_OPTIONS, "-w", self.name, *gpus]


@dataclass(frozen=True)
class AllocationEngine:
    """Hosts that are nodes of the launcher's own allocation."""

    nodes: Sequence[Node]
    python: str = ""
    """The interpreter on the nodes; empty: the path of this one."""
    most: int | None = None
    """How many hosts there are at most; None: all nodes."""
    is_elastic = False

    def places(self) -> Sequence[str]:
        """Return the names of the nodes."""
        return [node.name for node in self.nodes][: self.most]

    def transport(self, place: str) -> SrunTransport:
        """Return a new step on a node."""
        node = next(node for node in self.nodes if node.name == place)
        environment = srun_environment(os.environ, SLURM_JOB_ID=os.environ["SLURM_JOB_ID"])
        advice = {pattern: text.replace("{place}", place) for pattern, text in _ADVICE.items()}
        return SrunTransport(
            ["srun", *node.options(), *host_command(self.python)],
            environment | _of_components(os.environ),
            f"srun {place}",
            python_advice(self.python or sys.executable, place) | advice,
        )


def _nodes(environ: Mapping[str, str]) -> list[Node]:
    job = environ.get("SLURM_JOB_ID")
    if job is None:
        raise ConfigError(
            f"{_KEY}: this process is in no allocation of Slurm's (SLURM_JOB_ID is not set): start it in a batch "
            "script or by `salloc`, or choose hydra/launcher/hosts=slurm, which asks Slurm for hosts itself"
        )
    _refuse_tasks(environ)
    size = environ.get("SLURM_HET_SIZE")
    if size is None:
        if (listed := environ.get("SLURM_JOB_NODELIST")) is None:
            raise ConfigError(
                f"{_KEY}: SLURM_JOB_ID={job} is set, but not SLURM_JOB_NODELIST, so the nodes of that job are not "
                "known: start the launcher in a batch script or by `salloc`, which set both"
            )
        return _nodes_of(listed, job, None, environ)
    return [
        node
        for number in range(int(size))
        for node in _nodes_of(
            environ[f"SLURM_JOB_NODELIST_HET_GROUP_{number}"],
            environ.get(f"SLURM_JOB_ID_HET_GROUP_{number}", job),
            number,
            environ,
        )
    ]


def _refuse_tasks(environ: Mapping[str, str]) -> None:
    """Refuse a launcher that srun has started several times; the first one behind a terminal is meant."""
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks > 1 and (environ.get("SLURM_PROCID") != "0" or "SLURM_PTY_PORT" not in environ):
        raise ConfigError(
            f"{_KEY}: srun has started this launcher {tasks} times (SLURM_STEP_NUM_TASKS={tasks}), and it reaches the "
            "nodes itself: start it once, in the batch script without srun, or by `srun -N1 -n1 --overlap`"
        )


def _nodes_of(listed: str, job: str, component: int | None, environ: Mapping[str, str]) -> list[Node]:
    names = _asked("scontrol", "show", "hostnames", listed, environ=environ).split()
    gpus: dict[str, int] = {}
    shown = _asked("scontrol", "show", "job", "-d", job, environ=environ)
    for nodes, gres in re.findall(r"\bNodes=(\S+) .*\bGRES=(\S*)", shown):
        number = sum(int(count) for count in re.findall(r"gpu(?::[^:(,]+)?:(\d+)", gres))
        if number:
            gpus |= dict.fromkeys(_asked("scontrol", "show", "hostnames", nodes, environ=environ).split(), number)
    return [Node(name, job, component, gpus.get(name, 0)) for name in names]


def _of_components(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what srun has to know of the components of a heterogeneous job."""
    return {name: value for name, value in environ.items() if "_HET_" in name and name.startswith("SLURM_")}


def _asked(*argv: str, environ: Mapping[str, str]) -> str:
    try:
        answer = answer_of(argv, environ)
    except TimeoutError as error:
        raise ConfigError(f"{_KEY}: {error}") from error
    if answer.code != 0:
        raise ConfigError(
            f"{_KEY}: `{' '.join(argv)}` fails with {answer.said!r}: the allocation {environ['SLURM_JOB_ID']} "
            "may have ended; ask for a new one"
        )
    return answer.output
