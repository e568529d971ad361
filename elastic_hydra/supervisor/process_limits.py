"""Limits of this process's surroundings, on open files, processes and threads: named where an error speaks of one."""

from __future__ import annotations

import errno
import re
import resource

from elastic_hydra.numa.cgroup import process_limit

__all__ = ["check_open_files", "with_limit"]

_FILES = re.compile(r"too many open files|\[Errno 24\]|emfile", re.IGNORECASE)
_PROCESSES = re.compile(r"can't start new thread|resource temporarily unavailable|\[Errno 11\]", re.IGNORECASE)
"""What Python, C and C++ say when a thread or a process cannot be made."""

_FILES_OF_A_LAUNCH = 28
"""Open files that an agent needs besides those of its workers."""
_FILES_PER_WORKER = 2


def with_limit(text: str) -> str:
    """Add to an error's text the limit that it speaks of, with its value; one that speaks of none stays as it is."""
    if "RLIMIT_" in text:
        return text  # it says so itself
    if _FILES.search(text):
        return f"{text} (RLIMIT_NOFILE={_soft(resource.RLIMIT_NOFILE)} open files per process; raise it with ulimit -n)"
    if _PROCESSES.search(text):
        of_group = process_limit()
        group = "" if of_group is None else f", pids.max={of_group} of the control group"
        user = _soft(resource.RLIMIT_NPROC)
        return f"{text} (limits of processes and threads: RLIMIT_NPROC={user} of the user{group})"
    return text


def check_open_files(workers: int) -> None:
    """See that the agent of so many workers can open its files: without them torch and gloo fail or wait for ever.

    Args:
        workers: how many it starts.

    Raises:
        OSError: it cannot.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_OF_A_LAUNCH + _FILES_PER_WORKER * workers
    if soft != resource.RLIM_INFINITY and soft < needed:
        s = "s"[: workers > 1]
        raise OSError(
            errno.EMFILE,
            f"RLIMIT_NOFILE={soft}: {workers} worker{s} need at least {needed} open files per process; "
            f"raise it with ulimit -n, best to 1024 or more",
        )


def _soft(kind: int) -> str:
    soft, _ = resource.getrlimit(kind)
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
