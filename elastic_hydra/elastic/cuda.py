"""What must be asked of torch with care."""

from __future__ import annotations

import ctypes

import torch

from elastic_hydra.numa import nvml

__all__ = ["lacks_cuda_driver"]


def lacks_cuda_driver() -> bool:
    """Whether this torch is made for CUDA, and this machine has no driver for it.

    Then there are no devices, and torch must not be asked for them: without NVML it asks CUDA, which spoils all later
    forks, whatever the answer.
    """
    return torch.version.cuda is not None and nvml.load() is None and not _can_load("libcuda.so.1")


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
