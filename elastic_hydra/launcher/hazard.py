"""Whether this process may be forked into a warm server: the answer and its reason."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

import torch

from elastic_hydra.launcher.pools import openblas_threads
from elastic_hydra.numa import nvml

__all__ = ["fork_hazard", "lacks_cuda_driver", "poisoned"]


_is_fork = False


def _note_fork() -> None:
    global _is_fork
    _is_fork = True


os.register_at_fork(after_in_child=_note_fork)


def fork_hazard() -> str | None:
    """Say why a fork of this process would not be a sound parent of workers.

    A forked child has only the thread that forked: a lock that another thread held stays locked for ever, OpenMP waits
    for threads that are gone, and CUDA refuses to work. OpenBLAS alone handles forks, so its threads are allowed.

    Returns:
        the reason in words, or None when forking is safe.
    """
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        return f"it runs other threads ({', '.join(others[:3])})"
    if threading.current_thread() is not threading.main_thread():
        return "it is asked from a thread other than the main one"
    cuda = sys.modules.get("torch.cuda")
    if cuda is not None and cuda.is_initialized():
        return "it has initialized CUDA"
    # OpenBLAS says how many threads it wants; in a fork they are not there until they are needed. Better one server too
    # many in a fresh interpreter than one that hangs.
    native = _native_threads() - (0 if _is_fork else openblas_threads())
    if native > 0:
        return f"it runs {native} native threads, so it has run a parallel operation or holds a store"
    return None


def poisoned() -> str | None:
    """Say whether this process, just forked, has inherited a CUDA that it cannot use.

    Asking `torch.cuda.is_available()` is enough for that, and cannot be seen in the process that asked.
    """
    cuda = sys.modules.get("torch.cuda")
    if cuda is not None and cuda._is_in_bad_fork():
        return "it has asked CUDA for its devices, after which a forked process cannot use CUDA"
    return None


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


def _native_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except FileNotFoundError:
        return 0  # not Linux: only Python's own threads can be counted
