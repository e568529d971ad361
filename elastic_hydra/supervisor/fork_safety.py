"""Whether this process may be forked into a warm server: the answer and its reason."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

from elastic_hydra.compat import loaded
from elastic_hydra.supervisor import cuda_driver
from elastic_hydra.supervisor.thread_pools import openblas_threads

__all__ = ["CannotFork", "check_not_poisoned", "fork_hazard", "is_harmless"]

_HARMLESS_THREADS = (
    # jemalloc's, which returns unused memory in the background. Libraries start it when they are imported: pyarrow, and
    # with it pandas 3, datasets and mlflow. jemalloc takes its locks before a fork, renews them in the child, and notes
    # there that the thread is gone (`background_thread_postfork_child`). Forty forks of a process that had allocated by
    # it have allocated by it as well, in four threads each.
    re.compile("jemalloc_bg_thd"),
    # NVML's, which starts it when it is first used, and leaves it there at its shutdown. A launcher on a host with GPUs
    # counts them by NVML. With driver 580, ten forks of a process with such a thread have used both NVML and CUDA.
    # CUDA's own threads have such names, too, so it has to be known that CUDA is not initialized.
    re.compile("cuda[0-9a-f]{11}"),
)
"""Names of native threads that a fork may leave behind. Any other may hold a lock, or be waited for, in the child."""


class CannotFork(RuntimeError):
    """A process cannot be a warm server: its forks would not be sound, or it has ended. The text is the reason."""


_is_fork = False


def _note_fork() -> None:
    global _is_fork
    _is_fork = True


os.register_at_fork(after_in_child=_note_fork)


def fork_hazard() -> str | None:
    """Say why a fork of this process would not be a sound parent of workers.

    A forked child has only the thread that forked: a lock that another thread held stays locked for ever, OpenMP waits
    for threads that are gone, and CUDA refuses to work. OpenBLAS handles forks, so its threads are allowed, and so
    are those of `_HARMLESS_THREADS`.

    Returns:
        the reason in words, or None when forking is safe.
    """
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        return f"it runs other threads ({', '.join(others[:3])})"
    if threading.current_thread() is not threading.main_thread():
        return "it is asked from a thread other than the main one"
    if cuda_driver.is_initialized():
        return "it has initialized CUDA"
    # OpenBLAS says how many threads it wants; in a fork they are not there until they are needed. Better one server too
    # many in a fresh interpreter than one that hangs.
    native = [name for name in _native_threads() if not is_harmless(name)]
    count = len(native) - (0 if _is_fork else openblas_threads())
    if count > 0:
        known = ", ".join(sorted({name for name in native if name != _own_name()})[:3])
        named, ending = f" ({known})" if known else "", "s" if count > 1 else ""
        return f"it runs {count} native thread{ending}{named}, so it has run a parallel operation or holds a store"
    return None


def check_not_poisoned() -> None:
    """See that this process, just forked, has not inherited a CUDA that it cannot use.

    Asking `torch.cuda.is_available()` is enough for that.

    Raises:
        CannotFork: it has.
    """
    if loaded.cuda_is_unusable():
        raise CannotFork("it has asked CUDA for its devices, after which a forked process cannot use CUDA")


def is_harmless(thread: str) -> bool:
    """Whether a fork may leave a native thread behind, as long as CUDA is not initialized.

    Args:
        thread: its name, as the kernel keeps it.
    """
    return any(name.fullmatch(thread) for name in _HARMLESS_THREADS)


def _native_threads() -> list[str]:
    """Return the names of this process's threads but the main one; the kernel keeps 15 bytes of each.

    A thread that nobody has named has the name of the process.
    """
    names = []
    try:
        others = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    except FileNotFoundError:
        return []  # not Linux: only Python's own threads can be counted
    for task in others:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            names.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())
    return names


def _own_name() -> str:
    return Path("/proc/self/comm").read_text().strip()
