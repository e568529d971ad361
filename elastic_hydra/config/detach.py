"""`hydra.launcher.detach` and `hydra.launcher.sbatch`: a launcher that outlives the terminal where it was started."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional, List and Dict, not `|`, list and dict.
# ruff: noqa: UP006, UP035, UP045

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.slurm_keys import check_slurm_keys

__all__ = ["LOCAL", "SLURM", "SbatchConfig", "check_detach", "sbatch_keys", "way_of"]

LOCAL = "local"
"""The launcher runs on this machine, in a session of its own."""
SLURM = "slurm"
"""The launcher is a Slurm job."""
_WORDS = ("false", "true", LOCAL, SLURM)
_HOSTS_OF_SLURM = ("slurm", "allocation")
"""Engines of hosts with which `true` means a Slurm job."""
_COUNTS = ("nodes", "timeout_min", "cpus_per_task", "mem_gb", "gpus_per_node")
_OURS = {
    **dict.fromkeys(("array", "ntasks", "ntasks-per-node", "wrap"), "the job is one launcher: leave it out"),
    **dict.fromkeys(("output", "error", "open-mode"), "its output is in the sweep's directory: leave it out"),
    **dict.fromkeys(("hold", "parsable", "wait"), "the launcher sees to that: leave it out"),
    "job-name": "set sbatch.name instead",
    "signal": "set sbatch.signal_delay_s instead",
    "time": "set sbatch.timeout_min instead",
}
"""Options of sbatch that cannot be additional parameters, and what to do instead."""


@names_its_keys
@dataclass
class SbatchConfig:
    """The Slurm job of a launcher that is submitted: `detach=slurm`. The names are those of submitit."""

    name: Optional[str] = None
    """The job's name; null: that of the app. For this key, and those below that are null, Slurm's default holds."""
    partition: Optional[str] = None
    """Where the job waits."""
    timeout_min: Optional[int] = None
    """The job's time limit, in minutes. When it is over, the launcher goes back into the queue, and goes on later."""
    signal_delay_s: Optional[int] = None
    """Seconds before the time limit at which the launcher is told, so that jobs write checkpoints; null: as long as
    `checkpoint_timeout` and `shutdown_timeout` may take."""
    nodes: int = 1
    """How many nodes the job has. More than one are of use with `hosts=allocation` only."""
    cpus_per_task: Optional[int] = None
    """CPUs of each node."""
    mem_gb: Optional[float] = None
    """Memory of each node, in GB."""
    gpus_per_node: Optional[int] = None
    """GPUs of each node; with `hosts=slurm` the launcher's own job needs none."""
    gres: Optional[str] = None
    """Other things that each node must have, such as `gpu:a100:4`."""
    constraint: Optional[str] = None
    """Features that each node must have."""
    exclude: Optional[str] = None
    """Nodes on which the job must not run."""
    qos: Optional[str] = None
    """The quality of service."""
    account: Optional[str] = None
    """The account that is charged."""
    comment: Optional[str] = None
    """A comment for the job."""
    additional_parameters: Dict[str, Any] = field(default_factory=dict)
    """Other options of sbatch by their long names: `{reservation: course, mail-type: FAIL}`. Slurm gets `--name=value`;
    with true, `--name`."""
    setup: Optional[List[str]] = None
    """Lines of bash that are run before the launcher, as `[module load cuda]`."""


def sbatch_keys() -> tuple[str, ...]:
    """Return the names of the keys below `hydra.launcher`."""
    return tuple(f"sbatch.{key.name}" for key in dataclasses.fields(SbatchConfig))


def way_of(detach: Any, engine: str) -> str:
    """Return how a launcher is detached: `LOCAL` or `SLURM`; empty: it is not.

    Args:
        detach: `hydra.launcher.detach`, checked.
        engine: `hydra.launcher.hosts.engine`.
    """
    word = str(detach).lower()
    if word == "true":
        return SLURM if engine in _HOSTS_OF_SLURM else LOCAL
    return "" if word == "false" else word


def check_detach(values: Mapping[str, Any], problems: Problems) -> None:
    """Check the keys, which hold for a whole sweep.

    Args:
        values: of the keys, by their names below `hydra.launcher`.
        problems: takes what is wrong.
    """
    detach = values["detach"]
    problems.one_of("detach", str(detach).lower(), _WORDS)
    if values["debug"] is not None and str(detach).lower() != "false":
        problems.add("detach", detach, f"debug={values['debug']} needs the terminal: leave out one of the two")
    check_slurm_keys("sbatch", _COUNTS, _OURS, values, problems)
    if values["sbatch.signal_delay_s"] is not None:
        problems.at_least(0, "sbatch.signal_delay_s", values["sbatch.signal_delay_s"], " (seconds)")
