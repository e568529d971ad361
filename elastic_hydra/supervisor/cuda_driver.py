"""What CUDA's driver library says of this process, asked in a way that changes nothing."""

from __future__ import annotations

import ctypes
import os
import re

__all__ = ["is_initialized", "is_left_by_nvml"]

_LIBRARY = "libcuda.so.1"
_NOT_INITIALIZED = 3
"""CUDA_ERROR_NOT_INITIALIZED of the driver's API (cuda.h)."""
_THREAD = re.compile(r"cuda[0-9a-f]{11}")


def is_initialized(library: str = _LIBRARY) -> bool:
    """Whether anything in this process, torch or another library, has initialized CUDA: its forks cannot use it then.

    Args:
        library: the file name of the driver library.
    """
    try:
        driver = ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False  # nothing has loaded it
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) != _NOT_INITIALIZED


def is_left_by_nvml(thread: str) -> bool:
    """Whether a native thread is the one that NVML starts when it is first used, and does not end with its shutdown.

    A launcher on a host with GPUs counts them by NVML. With driver 580, processes forked from one with such a thread
    used both NVML and CUDA. CUDA's own threads have such names too, so `is_initialized` has to be asked as well.

    Args:
        thread: its name, as the kernel keeps it.
    """
    return _THREAD.fullmatch(thread) is not None
