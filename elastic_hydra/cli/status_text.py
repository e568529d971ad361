"""What `elastic-hydra status` says of a sweep, as text."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence

import click

from elastic_hydra.cli.columns import Cell, in_columns
from elastic_hydra.overview.hosts import pending_in_words
from elastic_hydra.overview.job import FAILED_STATES, JobOverview
from elastic_hydra.overview.last_line import last_line
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.time_left import TimeLeft
from elastic_hydra.overview.words import cut, duration, moment, shown_path

__all__ = ["COLOURS", "chosen", "command_text", "counts_text", "status_text"]

COLOURS = {
    "submitted": "cyan",
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "died": "red",
    "lost": "red",
    "interrupted": "yellow",
    "preempted": "yellow",
    "stopped": "yellow",
}
"""Of the states of jobs and sweeps; other states have none."""

_ORDER = ("running", "failed", "lost", "preempted", "interrupted", "waiting", "not started", "finished")
_MANY = 40
"""Jobs above which only some of each state are shown."""
_MOST_SHOWN = 20
_LONGEST_COMMAND = 200
_LONGEST_REASON = 100
_HEADS = ("job", "state", "time", "left", "attempt", "restarts", "overrides", "value or last line")


def status_text(
    sweep: SweepOverview, now: float, width: int | None = None, *, failed: bool = False, every: bool = False
) -> str:
    """Describe a sweep and its jobs.

    Args:
        sweep: the sweep.
        now: the time, in seconds since the epoch.
        width: characters of a line; None: no limit.
        failed: whether only jobs are shown that have run and not finished.
        every: whether all jobs are shown, however many there are.
    """
    left = TimeLeft(sweep, now)
    lines = [_headline(sweep, left, now), *_facts(sweep, now)]
    jobs = sweep.failures() if failed else list(sweep.jobs.values())
    shown = jobs if every or len(jobs) <= _MANY else chosen(sweep, jobs)
    if shown:
        lines += ["", *in_columns(_HEADS, [_row(sweep, job, left, now) for job in shown], width)]
    elif failed:
        lines += ["", "no job has failed"]
    if len(shown) < len(jobs):
        lines += ["", f"and {_rest(sweep, jobs, shown)}; --all shows them"]
    return "\n".join(lines)


def chosen(sweep: SweepOverview, jobs: Iterable[JobOverview]) -> list[JobOverview]:
    """Choose of many jobs those that run and those that failed; jobs that wait or have finished are only counted."""
    of_state: dict[str, list[JobOverview]] = {}
    for job in jobs:
        of_state.setdefault(sweep.state_of(job), []).append(job)
    shown: list[JobOverview] = []
    for state in _ORDER[:5]:
        found = of_state.get(state, [])
        newest_first = sorted(found, key=lambda job: job.ended or job.started or 0.0, reverse=state != "running")
        shown += newest_first[:_MOST_SHOWN]
    return shown


def _headline(sweep: SweepOverview, left: TimeLeft, now: float) -> str:
    state = click.style(sweep.state, fg=COLOURS.get(sweep.state), bold=True)
    said = f"{click.style(shown_path(sweep.folder), bold=True)}: {state}"
    if sweep.state == "running":
        said += f" for {duration(max(0.0, now - sweep.first_began))}" if sweep.first_began else ""
        to_go = left.of_sweep()
        return said + (f", about {duration(to_go)} left" if to_go is not None else "")
    if sweep.stopped is not None:
        said += f" ({sweep.stopped.reason})" if sweep.stopped.reason else ""
    return said + (f", {moment(sweep.last_event, now)}" if sweep.last_event else "")


def _facts(sweep: SweepOverview, now: float) -> list[str]:
    lines = [click.style(cut(command_text(sweep), _LONGEST_COMMAND), dim=True)] if sweep.command else []
    lines += [counts_text(sweep)] if sweep.jobs else ["no job yet"]
    if sweep.hosts.pending and sweep.state == "running":
        lines.append(pending_in_words(sweep.hosts.pending, now))
    common = sweep.common()
    return lines + ([f"all with {cut(' '.join(common), _LONGEST_COMMAND)}"] if common else [])


def command_text(sweep: SweepOverview) -> str:
    """Write down the command that has started a sweep, with the interpreter by its name alone."""
    return shlex.join([*map(os.path.basename, sweep.command[:1]), *sweep.command[1:]])


def counts_text(sweep: SweepOverview) -> str:
    """Say how many jobs are in each state."""
    return _counted(sweep.counts(), "")


def _row(sweep: SweepOverview, job: JobOverview, left: TimeLeft, now: float) -> Sequence[Cell]:
    state = sweep.state_of(job)
    to_go = left.of_job(job) if state == "running" else None
    texts = (
        duration(sweep.seconds(job, now)) if job.started is not None else "",
        f"~{duration(to_go)}" if to_go is not None else "",
        str(job.attempt + 1) if job.attempt else "",
        str(job.restarts) if job.restarts else "",
        " ".join(sweep.differing(job)),
        _last_word(job, state),
    )
    said = f"{state} on {job.host}" if state == "running" and job.host else state
    return [Cell(f"#{job.num}"), Cell(said, COLOURS.get(state)), *map(Cell, texts)]


def _last_word(job: JobOverview, state: str) -> str:
    """Return what is worth knowing of a job: why it failed, what it has returned, or what it has written last."""
    if state == "finished":
        return "" if job.value is None else _value(job.value)
    if job.reason and state != "running":
        return cut(job.reason, _LONGEST_REASON)
    return last_line(job.log_dir) if state in ("running", *FAILED_STATES) else ""


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else cut(str(value), _LONGEST_REASON)


def _rest(sweep: SweepOverview, jobs: Sequence[JobOverview], shown: Sequence[JobOverview]) -> str:
    """Count the jobs that are not shown, by state."""
    nums = {job.num for job in shown}
    counts: dict[str, int] = {}
    for job in jobs:
        if job.num not in nums:
            state = sweep.state_of(job)
            counts[state] = counts.get(state, 0) + 1
    return _counted(counts, "more ")


def _counted(counts: dict[str, int], more: str) -> str:
    ordered = [state for state in _ORDER if state in counts]
    return ", ".join(click.style(f"{counts[state]} {more}{state}", fg=COLOURS.get(state)) for state in ordered)
