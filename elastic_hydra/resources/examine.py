"""What a launcher wants to know of another host before its first job runs there; `examine` runs on that host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.numa import nvml
from elastic_hydra.numa.devices import used_memory
from elastic_hydra.numa.machine import Machine, read_machine
from elastic_hydra.numa.pci import NVIDIA
from elastic_hydra.resources.facts import facts_of_this_host

__all__ = ["Examined", "examine", "unfit"]

_SHARED_MEMORY = "/dev/shm"
_LEAST_SHARED_MEMORY = 64 << 20
"""Bytes that must be free there: gloo, NCCL and data loaders put their buffers there."""
_GPU_IN_USE = 1 << 30
"""Bytes from which on somebody else's process counts as one that uses a GPU."""


@dataclass(frozen=True)
class Examined:
    """What was found on a host."""

    facts: HostFacts
    machine: Machine
    token: str
    """What the launcher's token file has as its text there; empty: the host does not see the file."""
    shared_memory: int
    """Bytes that are free in `/dev/shm`; -1: there is none."""
    gpus_in_use: tuple[str, ...] = ()
    """The addresses of GPUs on which processes run already."""


def examine(token_file: str, time_left: Callable[[Mapping[str, str]], float | None]) -> Examined:
    """Look at the host of this process.

    Args:
        token_file: a file that the launcher has written into the sweep's directory.
        time_left: returns for how many seconds the host will be there, by this process's environment.
    """
    machine = read_machine()
    devices = machine.devices(NumaConfig(), os.environ)
    library = nvml.load() if any(device.vendor == NVIDIA for device in devices) else None
    used = used_memory(devices, library=library)
    path = Path(token_file)
    return Examined(
        facts=replace(facts_of_this_host(), time_left=time_left(os.environ)),
        machine=machine,
        token=path.read_text() if path.is_file() else "",
        shared_memory=shutil.disk_usage(_SHARED_MEMORY).free if os.path.isdir(_SHARED_MEMORY) else -1,
        gpus_in_use=tuple(address for address, size in used.items() if size > _GPU_IN_USE),
    )


def unfit(examined: Examined, token: str, folder: Path, key: str) -> str:
    """Say why no job can run on a host; empty: some can.

    Args:
        examined: what was found there.
        token: the text that the token file must have.
        folder: the sweep's directory.
        key: that names the directory.
    """
    if examined.token != token:
        return (
            f"it does not see the sweep's directory, {key}={folder}: choose one that all hosts share with the launcher"
        )
    if 0 <= examined.shared_memory < _LEAST_SHARED_MEMORY:
        free = bytes_in_words(examined.shared_memory)
        return f"only {free} are free in its {_SHARED_MEMORY}: remove what is left there, or have it made larger"
    if examined.gpus_in_use:
        return (
            f"its GPUs {', '.join(examined.gpus_in_use)} are in use already: end the processes there (nvidia-smi), or "
            "set CUDA_VISIBLE_DEVICES there to the others"
        )
    return ""
