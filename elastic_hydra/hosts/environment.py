"""The environment of jobs on another host: the launcher's, but for what is true of one host only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

__all__ = ["COMPLETE", "DIRECTORIES", "GPUS", "is_slurms", "merged"]

COMPLETE = "ELASTIC_HYDRA_HOST_ENVIRONMENT"
"""Is set where a host process has been started in the launcher's environment, to which lines of `hosts.setup` may have
added: then the host's value counts for every variable."""

GPUS = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
)
"""Variables that say which GPUs there are: whoever gives a host away says it (Slurm, Ray)."""

DIRECTORIES = ("TMPDIR", "TMP", "TEMP")
"""Variables that name a directory: the host's own value counts, else the launcher's if the host has that directory."""

_HOSTS_OWN = frozenset(
    (
        *GPUS,
        # names and sessions
        "HOST",
        "HOSTNAME",
        "SSH_AUTH_SOCK",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_TTY",
        "XDG_RUNTIME_DIR",
        "XDG_SESSION_ID",
        "DBUS_SESSION_BUS_ADDRESS",
        # the allocation that the host is in
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_CLUSTER_NAME",
        "SLURM_JOB_END_TIME",
        "SLURM_JOB_ID",
        "SLURM_JOB_NAME",
        "SLURM_JOB_PARTITION",
        "SLURM_RESTART_COUNT",
        "SLURMD_NODENAME",
    )
)
"""Variables of which the host's value counts, also when it has none."""

_SLURMS = ("SLURM_", "SLURMD_", "SRUN_", "SALLOC_", "SBATCH_", "PMI_", "PMIX_")
"""Beginnings of variables that are true of one task of one step only; libraries would take them for the job's own."""

_KEPT = frozenset(("SLURM_CONF",))
"""What of those is true wherever the cluster is."""


def merged(
    launchers: Mapping[str, str], hosts: Mapping[str, str], is_directory: Callable[[str], bool] = os.path.isdir
) -> dict[str, str]:
    """Return the environment of jobs on a host.

    Args:
        launchers: the environment of the launcher.
        hosts: the environment in which the host process was started.
        is_directory: whether the host has a directory.
    """
    environment = {name: value for name, value in launchers.items() if not _is_of_one_host(name)}
    for name in hosts if COMPLETE in hosts else _HOSTS_OWN & hosts.keys():
        if name in _HOSTS_OWN or not _is_of_one_host(name):
            environment[name] = hosts[name]
    for name in DIRECTORIES:
        if name in hosts:
            environment[name] = hosts[name]
        elif name in environment and not is_directory(environment[name]):
            del environment[name]
    return environment


def is_slurms(name: str) -> bool:
    """Whether a variable configures srun, or is set by it for one task of one step; not what names the cluster."""
    return name.startswith(_SLURMS) and name not in _KEPT


def _is_of_one_host(name: str) -> bool:
    return name in _HOSTS_OWN or is_slurms(name)
