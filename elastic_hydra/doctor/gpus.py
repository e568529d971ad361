"""Which GPUs jobs would get, and whether others use them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import metadata

import torch

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.doctor.finding import Finding, problem, warning, well
from elastic_hydra.numa import nvml

__all__ = ["look"]

_PART = "GPUs"
_IN_USE = 500 * 10**6
"""Bytes from which a GPU counts as used: the driver itself takes some hundred megabytes of each."""


def look(facts: HostFacts, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield what is found about the GPUs of this host.

    Args:
        facts: about this host.
        environ: the environment; CUDA_VISIBLE_DEVICES is read.
    """
    library = nvml.load()
    known = nvml.read_gpus(library)
    if known and not facts.gpus:
        yield _unused(environ, len(known))
    elif not facts.gpus:
        yield well(_PART, "none: a job has one worker on the CPUs, unless nproc_per_node says otherwise")
    else:
        yield well(_PART, f"{facts.gpus}: a job has a worker for each, unless nproc_per_node says otherwise")
    for index, (address, used) in enumerate(nvml.used_memory(library, (gpu.address for gpu in known)).items()):
        if used > _IN_USE:
            yield warning(
                _PART,
                f"{bytes_in_words(used)} of GPU {index} ({address}) are in use",
                "see with nvidia-smi whose they are; keep jobs off that GPU with CUDA_VISIBLE_DEVICES",
            )


def _unused(environ: Mapping[str, str], known: int) -> Finding:
    """Say why torch sees none of the GPUs that the driver knows."""
    if torch.version.cuda is None:
        text = f"the driver has {known}, but torch {metadata.version('torch')} is built without CUDA"
        return warning(_PART, text, "install a build of torch for CUDA (https://pytorch.org/get-started/locally/)")
    if "CUDA_VISIBLE_DEVICES" in environ:
        text = f"the driver has {known}, but CUDA_VISIBLE_DEVICES={environ['CUDA_VISIBLE_DEVICES']!r} shows none"
        return warning(_PART, text, "unset CUDA_VISIBLE_DEVICES, or name GPUs there")
    text = f"the driver has {known}, but torch for CUDA {torch.version.cuda} sees none"
    return problem(_PART, text, "`python -c 'import torch; torch.cuda.init()'` says why; the driver may be too old")
