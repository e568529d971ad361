"""Reads what this host offers to jobs: CPUs, GPUs and memory, and what the installed packages can do."""

from __future__ import annotations

import importlib.util
import os

import psutil
import torch

from elastic_hydra.compat.torch import event_handlers, rendezvous_backends
from elastic_hydra.compat.versions import version_of
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.numa import nvml
from elastic_hydra.numa.allowance import affinity
from elastic_hydra.numa.cgroup import cpu_quota, memory_limit
from elastic_hydra.supervisor import cuda_driver
from elastic_hydra.supervisor.process_state import environment

__all__ = ["facts_of_this_host"]


def facts_of_this_host() -> HostFacts:
    """Look at this host, without creating a CUDA context."""
    return HostFacts(
        cpus=len(affinity() or range(os.cpu_count() or 1)),
        gpus=_accelerators(),
        torch=version_of("torch"),
        memory=_memory(),
        backends=sorted({*HostFacts.backends, *rendezvous_backends()}),
        event_handlers=sorted({*HostFacts.event_handlers, *event_handlers()}),
        has_etcd=importlib.util.find_spec("etcd") is not None,
        quota=cpu_quota(),
    )


def _memory() -> int:
    """Return the bytes of memory that this process may use: the host's memory, or less if control groups limit it."""
    total = int(psutil.virtual_memory().total)
    return min(total, memory_limit() or total)


def _accelerators() -> int:
    # Without NVML, torch asks CUDA for the devices, which spoils all later forks, whatever the answer.
    if torch.version.cuda is not None and nvml.load() is None and not cuda_driver.is_installed():
        return 0
    with environment("PYTORCH_NVML_BASED_CUDA_CHECK", "1"):
        if torch.version.cuda or torch.version.hip:
            return torch.cuda.device_count()
    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0
