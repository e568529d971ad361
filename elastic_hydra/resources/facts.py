"""What this host offers to jobs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping

import psutil
import torch
from torch.distributed.elastic.events import handlers
from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

from elastic_hydra.compat.torch import lacks_cuda_driver
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.numa.allowance import affinity
from elastic_hydra.numa.cgroup import cpu_quota, memory_limit
from elastic_hydra.supervisor.process_state import environment

__all__ = ["facts_of_this_host"]


def facts_of_this_host() -> HostFacts:
    """Look at this host, without creating a CUDA context."""
    # A private table; what torch ships is the least there is.
    registered: Mapping[str, object] = getattr(rendezvous_handler_registry, "_registry", {})
    return HostFacts(
        cpus=len(affinity() or range(os.cpu_count() or 1)),
        gpus=_accelerators(),
        torch=torch_version(),
        memory=_memory(),
        backends=sorted({*HostFacts.backends, *registered}),
        event_handlers=sorted({*HostFacts.event_handlers, *getattr(handlers, "_log_handlers", {})}),
        has_etcd=importlib.util.find_spec("etcd") is not None,
        quota=cpu_quota(),
    )


def torch_version() -> tuple[int, int]:
    """Return major and minor version of the installed torch."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _memory() -> int:
    """Return the memory that this process may use: the machine's, or what its control groups allow of it."""
    total = int(psutil.virtual_memory().total)
    return min(total, memory_limit() or total)


def _accelerators() -> int:
    if lacks_cuda_driver():
        return 0
    with environment("PYTORCH_NVML_BASED_CUDA_CHECK", "1"):
        if torch.version.cuda or torch.version.hip:
            return torch.cuda.device_count()
    return torch.accelerator.device_count() if torch.accelerator.is_available() else 0
