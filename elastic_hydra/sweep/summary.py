"""The last screen of a sweep: what became of each job."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.lists import format_list
from elastic_hydra.numa.report import render as render_bindings
from elastic_hydra.sweep.job import Job
from elastic_hydra.sweep.slots import Slot

__all__ = ["NOT_STARTED", "Ended", "describe", "log_of", "render", "shown_path"]

NOT_STARTED = "not started"

_MANY = 40
"""Jobs above which those that finished are only counted."""
_WIDTH = 60


@dataclass
class Ended:
    """One job, as the summary shows it."""

    num: int
    overrides: Sequence[str]
    state: str
    """As in the journal, or `not started`."""
    reason: str = ""
    """In one line; empty when it finished."""
    log: Path | None = None
    """Where to read on."""
    value: Any = None
    seconds: float = 0.0
    """Since its first attempt began."""
    attempts: int = 0
    restarts: int = 0
    """Of its workers, in all attempts."""
    recorded: bool = False
    """Whether an earlier launcher ran it."""


def render(jobs: Sequence[Ended]) -> str:
    """Render the table of a batch.

    Args:
        jobs: all of them, in Hydra's order.
    """
    counts = {state: sum(job.state == state for job in jobs) for state in dict.fromkeys(job.state for job in jobs)}
    lines = [", ".join(f"{count} {state}" for state, count in counts.items())]
    shown = [job for job in jobs if len(jobs) <= _MANY or job.state != "finished"]
    rows = [("job", "state", "time", "attempts", "restarts", "value", "overrides"), *map(_row, shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row, job in zip(rows, (None, *shown), strict=True):
        lines.append("  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip())
        if job is not None and job.reason:
            lines.append(f"    {job.reason}")
        if job is not None and job.reason and job.log is not None:
            lines.append(f"    see {shown_path(job.log)}")
    if len(shown) < len(jobs):
        lines.append(f"and {len(jobs) - len(shown)} that finished")
    return "\n".join(lines)


def _row(job: Ended) -> tuple[str, ...]:
    ran = job.state != NOT_STARTED and not job.recorded
    return (
        f"#{job.num}",
        job.state,
        f"{job.seconds:.1f} s" if ran else "recorded" if job.recorded else "",
        str(job.attempts) if ran else "",
        str(job.restarts) if ran else "",
        _short(job.value) if job.state == "finished" else "",
        _short(" ".join(job.overrides), as_is=True),
    )


def log_of(log_dir: str | Path) -> Path:
    """Return where to read on about a worker: what it said last, if it said something, else its directory."""
    stderr = Path(log_dir) / "stderr.log"
    with contextlib.suppress(OSError):
        if stderr.stat().st_size:
            return stderr
    return Path(log_dir)


def shown_path(path: Path) -> str:
    """Shorten a path to what is needed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _short(value: Any, as_is: bool = False) -> str:
    text = str(value) if as_is else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def describe(job: Job, slot: Slot, bindings: Sequence[Binding]) -> str:
    """Say how a job would be launched.

    Args:
        job: not started.
        slot: what it would hold of this host.
        bindings: what its workers would be bound to.
    """
    launch = job.launch
    low, high = launch.min_nodes, launch.max_nodes
    facts = {
        "nodes": str(low) if low == high else f"{low} to {high}",
        "workers per node": launch.nproc_per_node,
        "rendezvous": f"{launch.backend} {launch.endpoint}".strip(),
        "threads per worker": launch.omp_num_threads or "as the binding or the environment says",
        "restarts": f"at most {launch.retry.max_restarts}",
        "GPUs": format_list(slot.gpus),
        "CPUs": format_list(slot.allowance.cpus) if slot.allowance is not None else "",
        "memory": f"{slot.memory / 1e9:.1f} GB" if slot.memory else "",
        "directory": job.output_dir,
    }
    lines = [f"    {name}: {value}" for name, value in facts.items() if value != ""]
    if bindings:
        lines += ["    " + line for line in render_bindings(bindings).splitlines()]
    return "\n".join(lines)
