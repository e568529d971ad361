"""The thread pools of the libraries under numpy and scipy, seen and set.

threadpoolctl knows more of them, but takes 40 ms to look through all that is loaded, which every worker would pay.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterator

__all__ = ["openblas_threads", "set_threads"]

_LIBRARIES = re.compile(r"lib(scipy_)?(openblas|blas|mkl_rt)")
_OPENBLAS = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")]
_MKL = "MKL_Set_Num_Threads"


def openblas_threads() -> int:
    """Return how many threads OpenBLAS has in this process, besides those that call it."""
    return sum(max(0, int(get()) - 1) for get in _functions([name.format("get") for name in _OPENBLAS]))


def set_threads(count: int) -> None:
    """Give each pool so many threads, those that call it among them."""
    for set_ in _functions([name.format("set") for name in _OPENBLAS] + [_MKL]):
        set_(count)


def _functions(names: list[str]) -> Iterator[Callable[..., int]]:
    """Find functions in the libraries that this process has loaded; each once, however many libraries show it."""
    seen: set[int | None] = set()
    for path in _loaded():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
            for function in (getattr(library, name, None) for name in names):
                address = ctypes.cast(function, ctypes.c_void_p).value if function is not None else None
                if function is not None and address not in seen:
                    seen.add(address)
                    yield function


def _loaded() -> list[str]:
    try:
        with open("/proc/self/maps") as file:
            paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in file if "blas" in line or "libmkl_rt" in line}
    except FileNotFoundError:
        return []  # not Linux
    return sorted(path for path in paths if _LIBRARIES.match(os.path.basename(path)))
