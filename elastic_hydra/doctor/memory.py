"""How much memory jobs may use, and whether there is room where processes share it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.doctor.finding import Finding, problem, warning, well

__all__ = ["look"]

_SHARED = Path("/dev/shm")
_FULL = 64 * 2**20
"""Bytes below which the loaders and NCCL of a first job are expected to fail; all that a container of Docker gets."""
_SCARCE = 2**30
"""Bytes below which loaders of several jobs side by side may fail."""


def look(facts: HostFacts, shared: Path = _SHARED) -> Iterator[Finding]:
    """Yield what is found about memory, shared memory and the folder for temporary files.

    Args:
        facts: about this host.
        shared: the folder in which processes share memory.
    """
    whole = int(psutil.virtual_memory().total)
    if facts.memory < whole:
        limit = f"{bytes_in_words(facts.memory)} of {bytes_in_words(whole)}, as the control group allows"
        yield well("memory", f"{limit}: jobs side by side share them (hydra.launcher.resources.memory_per_job)")
    else:
        yield well("memory", bytes_in_words(whole))
    if shared.is_dir():
        yield _shared(shared)
    yield _temporary(Path(tempfile.gettempdir()))


def _shared(folder: Path) -> Finding:
    part, free = str(folder), shutil.disk_usage(folder).free
    text = f"{bytes_in_words(free)} free"
    larger = "give the container more: docker --shm-size=8g or --ipc=host; Kubernetes: an emptyDir of medium Memory"
    if not os.access(folder, os.W_OK):
        return problem(part, "cannot be written: loaders and torch cannot share tensors", f"chmod 1777 {folder}")
    if free <= _FULL:
        return problem(part, f"{text}: a loader with workers dies of SIGBUS, NCCL refuses to start", larger)
    if free < _SCARCE:
        return warning(part, f"{text}: scarce for loaders of several jobs", larger)
    return well(part, text)


def _temporary(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{bytes_in_words(free)} free in {folder}"
    if free < _FULL:
        return problem("disk", text, "remove what is not needed there, or set TMPDIR to a folder with room")
    return well("disk", text)
