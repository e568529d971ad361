"""What CUDA's driver library says of this process, asked in a way that changes nothing."""

from __future__ import annotations

import ctypes
import os

__all__ = ["is_initialized", "is_installed"]

_LIBRARY = "libcuda.so.1"
_NOT_INITIALIZED = 3
"""CUDA_ERROR_NOT_INITIALIZED of the driver's API (cuda.h)."""


def is_installed() -> bool:
    """Whether this host has the driver library."""
    return _opened(_LIBRARY) is not None


def is_initialized(library: str = _LIBRARY) -> bool:
    """Whether anything in this process, torch or another library, has initialized CUDA: its forks cannot use it then.

    Args:
        library: the file name of the driver library.
    """
    driver = _opened(library, os.RTLD_NOLOAD)
    if driver is None:
        return False  # nothing has loaded it
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) != _NOT_INITIALIZED


def _opened(library: str, mode: int = 0) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library, mode=mode | os.RTLD_LAZY)
    except OSError:
        return None
