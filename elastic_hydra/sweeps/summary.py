"""What people read about a sweep and its jobs: what would be launched, where to read on, what to do next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import filter_overrides

from elastic_hydra.config.lists import format_list
from elastic_hydra.failures.classify import Failure
from elastic_hydra.jobs.job import Job
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.report import render as render_bindings
from elastic_hydra.overview.log_files import has_files
from elastic_hydra.resources.slots import Slot

__all__ = ["describe", "known_as", "log_of"]


def log_of(failure: Failure, log_dir: Path) -> Path | None:
    """Return where to read on about a failure: the stacks of one that hung, what a worker said last, or its directory.

    Args:
        failure: of the job.
        log_dir: of the job, for a failure that is no worker's.

    Returns:
        None: no file was written that would say more.
    """
    if failure.stacks:
        culprits = [path for path in failure.stacks if f"rank_{failure.rank}{os.sep}" in path]
        return Path((culprits or failure.stacks)[0])
    folder = Path(failure.log_dir or log_dir)
    stderr = folder / "stderr.log"
    with contextlib.suppress(OSError):
        if stderr.stat().st_size:
            return stderr
    return folder if has_files(str(folder)) else None


def known_as(num: int, overrides: Sequence[str]) -> str:
    """Say which job it is, in a text about several: `#3 (lr=0.1)`."""
    return f"#{num} ({' '.join(filter_overrides(overrides))})"


def describe(job: Job, slot: Slot, bindings: Sequence[Binding]) -> str:
    """Say how a job would be launched.

    Args:
        job: not started.
        slot: what it would hold of this host.
        bindings: what its workers would be bound to.
    """
    launch = job.launch
    low, high = launch.nodes.least, launch.nodes.most
    facts = {
        "nodes": str(low) if low == high else f"{low} to {high}",
        "workers per node": launch.nproc_per_node,
        "rendezvous": f"{launch.rendezvous.backend} {launch.rendezvous.endpoint}".strip(),
        "threads per worker": launch.omp_num_threads or "as the binding or the environment says",
        "restarts": f"at most {launch.keys.retry.max_restarts}",
        "GPUs": format_list(slot.gpus),
        "CPUs": format_list(slot.allowance.cpus) if slot.allowance is not None else "",
        "memory": f"{slot.memory / 1e9:.1f} GB" if slot.memory else "",
        "directory": job.output_dir,
    }
    lines = [f"    {name}: {value}" for name, value in facts.items() if value != ""]
    if bindings:
        lines += ["    " + line for line in render_bindings(bindings).splitlines()]
    return "\n".join(lines)
