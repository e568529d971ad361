"""What the standard library has no public name for, or has in later versions of Python only.

All processes of a sweep import this module, so it imports nothing that takes time and that some of them do not need.
"""

from __future__ import annotations

import _io
import atexit
import builtins
import os
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeAlias

__all__ = [
    "EXCEPTION_GROUP",
    "Environ",
    "FileBase",
    "add_note",
    "finalizers",
    "forget_exit_functions",
    "forget_processes",
    "join_threads",
    "prepare_after_fork",
    "reducer_of",
    "resource_tracker_fd",
    "run_exit_functions",
    "use_resource_tracker",
]

Environ: TypeAlias = os._Environ[str]
"""The class of `os.environ`."""
FileBase: type = _io._IOBase
"""Base of the classes of all files, and of nothing that was only registered as a file."""
EXCEPTION_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())
"""Base of the exceptions that have members; Python 3.10 has none, and nothing is an instance of `()`."""


def add_note(error: BaseException, note: str) -> None:
    """Add a line below the traceback of an exception; Python 3.10 knows no notes."""
    if sys.version_info >= (3, 11):
        error.add_note(note)


def join_threads() -> None:
    """Wait for all threads that are not daemons, as an interpreter does at its end."""
    threading._shutdown()  # type: ignore[attr-defined]


def run_exit_functions() -> None:
    """Run the functions that were registered with `atexit`, and forget them."""
    atexit._run_exitfuncs()


def forget_exit_functions() -> None:
    """Forget the functions that were registered with `atexit`."""
    atexit._clear()


def finalizers() -> list[Any]:
    """Return the living instances of `weakref.finalize`."""
    kind: Any = weakref.finalize
    return list(kind._registry)


def prepare_after_fork() -> None:
    """Reset queues and the like of `multiprocessing` in a fork, whose parent alone has the threads that serve them."""
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util._run_after_forkers()


def forget_processes() -> None:
    """Have `multiprocessing` neither wait for its child processes nor remove what it has created."""
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import process, util

        util._finalizer_registry.clear()  # type: ignore[attr-defined]
        process._children.clear()  # type: ignore[attr-defined]


def resource_tracker_fd() -> int | None:
    """Return the file descriptor of the resource tracker, a process that removes shared memory nobody uses any more."""
    fd: int | None = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    return fd


def use_resource_tracker(fd: int) -> None:
    """Use the resource tracker behind a file descriptor: it removes shared memory that nobody uses any more."""
    resource_tracker._resource_tracker._fd = fd  # type: ignore[attr-defined]


def reducer_of(kind: type) -> Callable[[Any], Any] | None:
    """Return the function with which `multiprocessing` pickles objects of a class; None: it has none for the class."""
    function: Callable[[Any], Any] | None = ForkingPickler._extra_reducers.get(kind)  # type: ignore[attr-defined]
    return function
