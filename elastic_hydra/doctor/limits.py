"""Whether this user may open as many files and start as many processes as jobs need."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.doctor.finding import Finding, problem, warning, well
from elastic_hydra.numa.cgroup import process_limit
from elastic_hydra.supervisor.process_limits import check_open_files

__all__ = ["look"]

_FILES = 1024
"""Open files with which a job with loaders goes well."""
_PROCESSES_PER_WORKER = 64
"""Processes and threads that a worker with loaders may need."""


def look(facts: HostFacts) -> Iterator[Finding]:
    """Yield what is found about the limits of this process.

    Args:
        facts: about this host.
    """
    workers = max(1, facts.gpus)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        check_open_files(workers)
    except OSError as error:
        yield problem("open files", str(error.strerror), "ulimit -n 4096")
    else:
        if soft != resource.RLIM_INFINITY and soft < _FILES:
            yield warning("open files", f"{soft} in a process: few for loaders", f"ulimit -n {_in_words(hard)}")
        else:
            yield well("open files", f"{_in_words(soft)} in a process")
    of_group = process_limit()
    if of_group is None:
        return
    text = f"the control group allows {of_group} processes and threads"
    if of_group < workers * _PROCESSES_PER_WORKER:
        yield warning("processes", f"{text}: few for {workers} with loaders", "raise pids.max (docker: --pids-limit)")
    else:
        yield well("processes", text)


def _in_words(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
