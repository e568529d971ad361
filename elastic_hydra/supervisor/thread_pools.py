"""The thread pools of the libraries under numpy and scipy, seen and set.

threadpoolctl knows more of them, but takes 40 ms to look through all that is loaded, which every worker would pay.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterator

__all__ = ["look", "openblas_threads", "set_threads"]

_LIBRARIES = re.compile(r"lib(scipy_)?(openblas|blas|mkl_rt)")
_OPENBLAS = [(f"{prefix}openblas_", suffix) for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]
"""What the names of OpenBLAS's functions begin and end with."""
_PTHREADS = 1
"""What `openblas_get_parallel` returns when OpenBLAS has threads of its own, and not those of OpenMP."""

_found: list[str] | None = None
"""Libraries that this process, or the one of which it is a fork, has found; None: it has not looked."""


def look() -> None:
    """Find the libraries in a process that is going to be forked: its forks need not look for them."""
    global _found
    _found = _loaded()


def openblas_threads() -> int:
    """Return how many threads OpenBLAS has in this process, besides those that call it."""
    return sum(max(0, int(get()) - 1) for _, get in _functions([f"{a}get_num_threads{z}" for a, z in _OPENBLAS]))


def set_threads(count: int) -> None:
    """Give each pool so many threads, those that call it among them."""
    names = [f"{a}set_num_threads{z}" for a, z in _OPENBLAS]
    for library, set_ in _functions([*names, "MKL_Set_Num_Threads"]):
        if not _set_before_start(library, count):
            set_(count)


def _set_before_start(library: ctypes.CDLL, count: int) -> bool:
    """Set the size of a pool of OpenBLAS's whose threads do not run: after a fork they start when they are needed.

    Its own function would first start as many as there were before the fork, to tell them that they may rest; each
    keeps a CPU busy for 0.1 s before it does. On a machine of 64 CPUs each worker would start 63.

    Args:
        library: OpenBLAS, or a library that uses it.
        count: how many threads compute, the calling one among them.

    Returns:
        whether that was possible; if not, OpenBLAS's own function does it.
    """
    kinds = (getattr(library, f"{a}get_parallel{z}", None) for a, z in _OPENBLAS)
    if not any(kind is not None and kind() == _PTHREADS for kind in kinds):
        return False
    try:
        used, pool, running = (
            ctypes.c_int.in_dll(library, name) for name in ("blas_cpu_number", "blas_num_threads", "blas_server_avail")
        )
    except ValueError:
        return False  # a version of OpenBLAS that calls them otherwise
    if running.value or count > pool.value:
        return False
    used.value = pool.value = count
    return True


def _functions(names: list[str]) -> Iterator[tuple[ctypes.CDLL, Callable[..., int]]]:
    """Find functions in the libraries that this process has loaded; each once, however many libraries show it."""
    seen: set[int | None] = set()
    for path in _loaded() if _found is None else _found:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
            for function in (getattr(library, name, None) for name in names):
                address = ctypes.cast(function, ctypes.c_void_p).value if function is not None else None
                if function is not None and address not in seen:
                    seen.add(address)
                    yield library, function


def _loaded() -> list[str]:
    try:
        with open("/proc/self/maps") as file:
            paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in file if "blas" in line or "libmkl_rt" in line}
    except FileNotFoundError:
        return []  # not Linux
    return sorted(path for path in paths if _LIBRARIES.match(os.path.basename(path)))
