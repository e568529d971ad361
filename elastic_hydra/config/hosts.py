"""`hydra.launcher.hosts`: the machines that give slots to the jobs of a sweep, and how the launcher reaches them."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional, List and Dict, not `|`, list and dict.
# ruff: noqa: UP006, UP035, UP045

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from elastic_hydra.config.durations import number_of_seconds
from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.nodes import nodes_of
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.slurm_keys import check_slurm_keys
from elastic_hydra.config.values import count

__all__ = [
    "ENGINES",
    "LOCAL",
    "HostsConfig",
    "check_duration_on_hosts",
    "check_hosts",
    "check_nodes_on_hosts",
    "hosts_keys",
    "without_effect",
]

LOCAL = "local"
"""The engine whose only host is the machine of the launcher."""
ENGINES = (LOCAL, "allocation", "slurm", "ssh", "ray")
"""The ways to reach hosts that this package has."""
_ENGINE = f"must be one of {', '.join(ENGINES)}, or a module of yours with a dot in its name, as my_package.docker"
_WITH_LIST = "ssh"
_COUNTS = ("timeout_min", "cpus_per_task", "mem_gb", "cpus_per_gpu")
_STREAM = "srun's input and output lead to the host, and what jobs write is in the sweep's directory: leave it out"
_TASK = "a host is one task on one node: leave it out"
_REFUSED = {
    **dict.fromkeys(("error", "input", "label", "open-mode", "output", "pty", "unbuffered"), _STREAM),
    **dict.fromkeys(("array", "gpus-per-task", "multi-prog", "nodes", "ntasks", "ntasks-per-node"), _TASK),
    "export": "jobs need the launcher's environment; lines of hosts.setup can change it: leave it out",
    "job-name": "hosts.name is how the names of the hosts' jobs begin: leave it out",
    "requeue": "another host is asked for when one was preempted: leave it out",
}
"""Options of srun that cannot be additional parameters, why, and what to do."""
_OF_RAY = ("address", "gpus_per_host", "cpus_per_host", "resources")
_OF_ANY = ("engine", "max", "list", "python", "silence", "start_timeout")


@names_its_keys
@dataclass
class HostsConfig:
    """The machines on which jobs run: `hydra/launcher/hosts=local|allocation|slurm|ssh|ray`."""

    engine: str = LOCAL
    """How hosts are reached: `local` (the launcher's own machine), `allocation` (all nodes of the Slurm job that the
    launcher is in), `slurm` (each host is a Slurm job of its own), `ssh` (those of `list`), or `ray`. A name with a dot
    is a module of yours whose function `engine` returns a way of its own."""
    max: Optional[int] = None
    """How many hosts the sweep has at most; null: all that there are."""
    list: Any = field(default_factory=lambda: [])  # noqa: PIE807 (the name of this key hides the type)
    """`ssh`, or a way of your own: the names of the hosts, as ssh takes them, or a file that has one in each line."""
    python: Optional[str] = None
    """The Python interpreter on the hosts; null: the path of the launcher's own."""
    silence: float = 60.0
    """Seconds without a sign of life after which a host counts as lost, and after which a host whose launcher is silent
    ends all that it runs. It should be longer than the network's usual interruptions."""
    start_timeout: Optional[float] = 300.0
    """Seconds that a sweep waits for a host while it has none on which its jobs can run, at its start or later; null:
    for ever, as for a queue that is full for days."""
    ssh_options: List[str] = field(default_factory=lambda: [])  # noqa: PIE807
    """`ssh`: further options for it, one word each: `[-p2222, -oProxyJump=login]`."""
    name: str = "elastic_hydra"
    """`slurm`: how the names of the hosts' jobs begin."""
    partition: Optional[str] = None
    """`slurm`: the partition of the hosts' jobs. For this key, and those below that are null, Slurm's default holds."""
    timeout_min: Optional[int] = None
    """`slurm`: the time limit of a host's job, in minutes."""
    signal_delay_s: int = 120
    """`slurm`: seconds before the time limit at which a host is told that it ends. Its jobs get SIGUSR1, as when they
    are preempted."""
    cpus_per_task: Optional[int] = None
    """`slurm`: CPUs of a host."""
    mem_gb: Optional[float] = None
    """`slurm`: memory of a host, in GB."""
    gpus_per_node: Any = None
    """`slurm`: GPUs of a host; with a type, `a100:4`."""
    gres: Optional[str] = None
    """`slurm`: other things that a host needs, such as `gpu:a100:4`."""
    mem_per_cpu: Optional[str] = None
    """`slurm`: memory for each CPU, such as `4G`."""
    mem_per_gpu: Optional[str] = None
    """`slurm`: memory for each GPU."""
    cpus_per_gpu: Optional[int] = None
    """`slurm`: CPUs for each GPU."""
    constraint: Optional[str] = None
    """`slurm`: features that a host must have."""
    exclude: Optional[str] = None
    """`slurm`: nodes that are no hosts."""
    qos: Optional[str] = None
    """`slurm`: the quality of service of the hosts' jobs."""
    account: Optional[str] = None
    """`slurm`: the account that is charged."""
    comment: Optional[str] = None
    """`slurm`: a comment for the hosts' jobs."""
    additional_parameters: Optional[Dict[str, Any]] = field(default_factory=dict)
    """`slurm`: other options of srun by their long names: `{reservation: course, mail-type: FAIL}`. Slurm gets
    `--name=value`; with true, `--name`."""
    setup: Optional[List[str]] = None
    """`slurm`: lines of bash that are run on a host first, as `[module load cuda]`. What they export, jobs see."""
    address: str = "auto"
    """`ray`: the head of the cluster, `HOST:PORT`; `auto`: that of `RAY_ADDRESS`, or the cluster that runs on this
    machine; `local`: a cluster on this machine that ends with the sweep."""
    gpus_per_host: Optional[int] = None
    """`ray`: GPUs of a host; null: all that the cluster's largest node has."""
    cpus_per_host: Optional[int] = None
    """`ray`: CPUs of a host, as Ray counts them; null: all that the cluster's largest node has."""
    resources: Dict[str, float] = field(default_factory=dict)
    """`ray`: other resources that a host needs, by Ray's names for them: `{TPU: 4}`."""


def hosts_keys() -> tuple[str, ...]:
    """Return the names of the keys below `hydra.launcher`."""
    return tuple(f"hosts.{key.name}" for key in dataclasses.fields(HostsConfig))


def check_hosts(values: Mapping[str, Any], problems: Problems) -> None:
    """Check the keys, which hold for a whole sweep.

    Args:
        values: of the keys, by their names below `hydra.launcher`.
        problems: takes what is wrong.
    """
    engine, listed = values["hosts.engine"], values["hosts.list"]
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", engine):
        problems.one_of("hosts.engine", engine, ENGINES, _ENGINE)
    if values["hosts.max"] is not None:
        problems.at_least(1, "hosts.max", values["hosts.max"])
    problems.not_blank("hosts.python", values["hosts.python"])
    is_well = isinstance(listed, str) or (isinstance(listed, list) and all(isinstance(name, str) for name in listed))
    problems.require(is_well, "hosts.list", listed, "must be a list of hosts, as [n1, n2], or the name of a file")
    if engine == _WITH_LIST:
        problems.require(
            bool(listed), "hosts.list", "[]", "ssh needs the names of the hosts, as [n1, n2], or of a file with them"
        )
    elif listed and engine in ENGINES:
        problems.add("hosts.list", listed, f"only hosts={_WITH_LIST} has a list of hosts: choose it, or leave this out")
    _check_slurm(values, problems)
    _check_ray(values, problems)
    for key in ("hosts.silence", "hosts.start_timeout"):
        value = values[key]
        problems.require(value is None or value > 0, key, value, "must be more than 0 (seconds)")


def without_effect(keys: HostsConfig) -> str:
    """Name the keys that are set and are for another way to reach hosts; empty: there is none, or nobody can say."""
    others = {"slurm": (*_OF_RAY, "ssh_options"), "ray": (*_of_slurm(), "ssh_options"), "ssh": (*_OF_RAY, *_of_slurm())}
    names = others.get(keys.engine, (*_OF_RAY, *_of_slurm(), "ssh_options") if keys.engine in ENGINES else ())
    defaults = HostsConfig()
    found = [f"{name}={getattr(keys, name)}" for name in names if getattr(keys, name) != getattr(defaults, name)]
    return ", ".join(found)


def _of_slurm() -> tuple[str, ...]:
    names = (key.name for key in dataclasses.fields(HostsConfig))
    return tuple(name for name in names if name not in (*_OF_ANY, *_OF_RAY, "ssh_options"))


def check_nodes_on_hosts(engine: str, value: Any, problems: Problems) -> None:
    """Refuse jobs on other machines than the launcher's whose number of nodes may vary.

    Args:
        engine: how hosts are reached.
        value: of the key `nodes`.
        problems: takes what is wrong.
    """
    least, most = nodes_of(value, Problems())
    if engine != LOCAL and least < most:
        what = f"with hosts.engine={engine} the number of nodes is fixed: set nodes={least}, or nodes={most}"
        problems.add("nodes", value, what)


def check_duration_on_hosts(engine: str, timeout_min: int | None, value: Any, problems: Problems) -> None:
    """Refuse jobs that take longer than a host may, before one is waited for in the queue.

    Args:
        engine: how hosts are reached.
        timeout_min: of the key `hosts.timeout_min`.
        value: of the key `resources.duration`.
        problems: takes what is wrong.
    """
    if engine == "slurm" and timeout_min and (number_of_seconds(value) or 0.0) > timeout_min * 60:
        problems.add("resources.duration", value, f"must be at most hosts.timeout_min={timeout_min}, a host's time")


def _check_slurm(values: Mapping[str, Any], problems: Problems) -> None:
    check_slurm_keys("hosts", _COUNTS, _REFUSED, values, problems)
    limit, delay = values["hosts.timeout_min"], values["hosts.signal_delay_s"]
    problems.at_least(0, "hosts.signal_delay_s", delay, " (seconds)")
    if limit is not None and 0 < limit * 60 <= delay:
        problems.add("hosts.signal_delay_s", delay, f"must be less than hosts.timeout_min={limit} is in seconds")
    gpus = values["hosts.gpus_per_node"]
    is_well = gpus is None or count(gpus, 0) is not None or re.fullmatch(r"[\w.-]+:\d+", str(gpus)) is not None
    problems.require(is_well, "hosts.gpus_per_node", gpus, "must be 0 or more, or with a type, as a100:4")


def _check_ray(values: Mapping[str, Any], problems: Problems) -> None:
    address = values["hosts.address"]
    is_well = address in ("auto", "local") or re.fullmatch(r"[^\s/]+:\d+", address) is not None
    what = "must be auto, local, or HOST:PORT of the cluster's head"
    if address.startswith("ray://"):
        what = "Ray Client carries no streams of hosts: start the launcher on a machine of the cluster, and set auto"
    problems.require(is_well, "hosts.address", address, what)
    for key in ("hosts.gpus_per_host", "hosts.cpus_per_host"):
        if values[key] is not None:
            problems.at_least(0, key, values[key])
    for name, amount in values["hosts.resources"].items():
        problems.require(amount > 0, f"hosts.resources.{name}", amount, "must be more than 0")
