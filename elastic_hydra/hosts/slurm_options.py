"""Options that srun and sbatch have in common, from keys that are named alike, and what to do where Slurm refuses."""

from __future__ import annotations

from typing import TypeAlias

from elastic_hydra.config.detach import SbatchConfig
from elastic_hydra.config.hosts import HostsConfig

__all__ = ["Keys", "additional_options", "advice", "named_options"]

Keys: TypeAlias = HostsConfig | SbatchConfig

_WORDS = (
    "partition",
    "gpus_per_node",
    "cpus_per_task",
    "gres",
    "mem_per_cpu",
    "mem_per_gpu",
    "cpus_per_gpu",
    "constraint",
    "exclude",
    "qos",
    "account",
    "comment",
)
"""Keys that are options, with `-` for `_`; a group need not have all of them."""
_ADVICE = {
    r"[Ii]nvalid partition": "{key}.partition={partition}: there is no such partition; `sinfo` lists them",
    r"[Ii]nvalid account": (
        "{key}.account={account}: you cannot charge it there; `sacctmgr show associations user=$USER` lists yours"
    ),
    r"[Ii]nvalid qos": (
        "{key}.qos={qos}: there is none of that name for you; `sacctmgr show associations user=$USER` lists yours"
    ),
    r"[Ii]nvalid feature": "{key}.constraint={constraint}: no node has that feature; `sinfo -o '%N %f'` lists them",
    r"[Ii]nvalid generic resource": "{key}.gres={gres}: no node has that; `sinfo -o '%N %G'` lists what they have",
    r"node configuration is not available|Memory specification can not": (
        "No node that can be used now is as large as {key}.cpus_per_task, mem_gb and gpus_per_node ask: "
        "`sinfo -N -o '%N %c %m %G %T'` lists the nodes"
    ),
    r"[Ii]nvalid node name": "{key}.exclude or nodelist names a node that does not exist; `sinfo -N` lists them",
    r"violates accounting/QOS policy|(?:QOS|Assoc)\w+Limit|PartitionNodeLimit": (
        "That is a limit of your account's, or of the partition's: ask for less {of_what} ({key}.cpus_per_task, "
        "mem_gb, gpus_per_node, timeout_min){or_fewer}"
    ),
    r"time limit|TimeLimit": "{key}.timeout_min={timeout_min}: more than that partition allows (`sinfo -o '%P %l'`)",
    r"unrecognized option|invalid option": "Correct {key}.additional_parameters: {program} has no such option",
    r"partition not available": "The partition takes no jobs now: choose another {key}.partition, or come back later",
    r"configuration source": (
        "This machine knows of no Slurm cluster: start the sweep where `sinfo` works, or {otherwise}"
    ),
    r"Unable to contact|Socket timed out": "Slurm's controller does not answer: ask `scontrol ping`, and try again",
}


def named_options(keys: Keys) -> list[str]:
    """Return the options for what has a key of its own."""
    values = {name: getattr(keys, name, None) for name in _WORDS}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]
    if keys.timeout_min is not None:
        options.append(f"--time={keys.timeout_min}")
    if keys.mem_gb is not None:
        options.append(f"--mem={round(keys.mem_gb * 1024)}M")
    return options


def additional_options(keys: Keys) -> list[str]:
    """Return the options that `additional_parameters` asks for."""
    options = []
    for name, value in (keys.additional_parameters or {}).items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value is not None and value is not False:
            options.append(f"{option}={value}")
    return options


def advice(keys: Keys) -> dict[str, str]:
    """Return what to do about Slurm's messages."""
    named = ("partition", "account", "qos", "constraint", "gres", "timeout_min")
    words = {name: "null" if getattr(keys, name) is None else getattr(keys, name) for name in named}
    if isinstance(keys, HostsConfig):
        words |= {"key": "hydra.launcher.hosts", "program": "srun", "of_what": "per host"}
        words["or_fewer"] = ", or for fewer hosts (hydra.launcher.hosts.max)"
        words["otherwise"] = "choose another hydra/launcher/hosts"
    else:
        words |= {"key": "hydra.launcher.sbatch", "program": "sbatch", "of_what": "for the launcher"}
        words |= {"or_fewer": "", "otherwise": "set hydra.launcher.detach=local"}
    return {pattern: text.format(**words) for pattern, text in _ADVICE.items()}
