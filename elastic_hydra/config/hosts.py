"""`hydra.launcher.hosts`: the machines that give slots to the jobs of a sweep, and how the launcher reaches them."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional, not `|`.
# ruff: noqa: UP045

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.problems import Problems

__all__ = ["ENGINES", "LOCAL", "HostsConfig", "check_hosts", "hosts_keys"]

LOCAL = "local"
"""The engine whose only host is the machine of the launcher."""
ENGINES = (LOCAL, "allocation", "slurm", "ssh", "ray")
"""The ways to reach hosts that this package has."""
_WITH_LIST = "ssh"


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
    list: Any = field(default_factory=list)
    """`ssh`: the names of the hosts, as ssh takes them, or a file that has one in each line."""
    python: Optional[str] = None
    """The Python interpreter on the hosts; null: the path of the launcher's own."""
    silence: float = 60.0
    """Seconds without a sign of life after which a host counts as lost, and after which a host whose launcher is silent
    ends all that it runs. It should be longer than the network's usual interruptions."""
    start_timeout: Optional[float] = 300.0
    """Seconds within which the first host must be there; null: wait for ever, as for a queue that is full for days."""


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
        problems.one_of("hosts.engine", engine, ENGINES, f"must be one of {', '.join(ENGINES)}, or a module of yours")
    if values["hosts.max"] is not None:
        problems.at_least(1, "hosts.max", values["hosts.max"])
    problems.not_blank("hosts.python", values["hosts.python"])
    is_well = isinstance(listed, str) or (isinstance(listed, list) and all(isinstance(name, str) for name in listed))
    problems.require(is_well, "hosts.list", listed, "must be a list of hosts, as [n1, n2], or the name of a file")
    if engine == _WITH_LIST:
        problems.require(
            bool(listed), "hosts.list", "[]", "ssh needs the names of the hosts, as [n1, n2], or of a file with them"
        )
    elif listed:
        problems.add("hosts.list", listed, f"only hosts={_WITH_LIST} has a list of hosts: choose it, or leave this out")
    for key in ("hosts.silence", "hosts.start_timeout"):
        value = values[key]
        problems.require(value is None or value > 0, key, value, "must be more than 0 (seconds)")
