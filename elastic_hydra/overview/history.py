"""What has happened to one job, and why: each event in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elastic_hydra.config.lists import format_list
from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    JobComposed,
    JobEnded,
    JobsLeftOut,
    RequeueAsked,
    StacksWritten,
    StartsHeldUp,
    StopAsked,
    StoreOpened,
    SweepBegan,
    SweepStopped,
    WorkersBound,
    WorkersFailed,
    WorkersStarted,
)
from elastic_hydra.journal.lines import Lines
from elastic_hydra.overview.hosts import pending_in_words
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.time_left import TimeLeft
from elastic_hydra.overview.words import duration, moment

__all__ = ["happened", "why_now"]

_SHOWN = 8
"""Jobs that are named at most."""


def happened(journals: Sequence[Path], num: int) -> list[tuple[float, str]]:
    """Tell what has happened to a job.

    Args:
        journals: of the sweep: of several where launchers on several nodes have run it.
        num: the job.

    Returns:
        moments, in seconds since the epoch, and what happened then, in their order.
    """
    told = [
        (event.time, (f"{host}: " if len(journals) > 1 else "") + _SENTENCES[type(event)](event))
        for path in journals
        for host, event in _about(path, num)
        if type(event) in _SENTENCES
    ]
    return sorted(told, key=lambda pair: pair[0])


def _about(path: Path, num: int) -> Iterator[tuple[str, Event]]:
    """Yield the events that tell of a job, with the host of the launcher; and those about all jobs while it waits."""
    host, found, waits = "", list[tuple[str, Event]](), False
    for _, event in Lines(path):
        if isinstance(event, SweepBegan):
            host = event.host
            found = found if event.resume else []
            waits = bool(found)
        of_job = getattr(event, "num", None) == num or num in getattr(event, "nums", ())
        if isinstance(event, (JobComposed, AttemptLost)) and of_job:
            waits = True
        elif isinstance(event, (AttemptStarted, JobEnded)) and of_job:
            waits = False
        of_sweep = isinstance(event, (SweepBegan, SweepStopped, RequeueAsked)) or (
            isinstance(event, StopAsked) and not event.nums
        )
        of_all = of_sweep or (waits and isinstance(event, StartsHeldUp))
        if of_job or of_all:
            found.append((host, event))
    yield from found


def _begin(event: SweepBegan) -> str:
    return f"a launcher began{' to resume the sweep' if event.resume else ''} on {event.host or 'an unknown host'}"


def _compose(event: JobComposed) -> str:
    return "composed" + (f"; it needs {event.needs}" if event.needs else "")


def _start(event: AttemptStarted) -> str:
    return f"attempt {event.attempt + 1} started{_on(event)}"


def _on(event: AttemptStarted) -> str:
    places = [_place(host, gpus, cpus) for host, (gpus, cpus) in event.held().items()]
    return f" on {'; '.join(places)}" if any(places) else ""


def _place(host: str, gpus: Sequence[int], cpus: Sequence[int]) -> str:
    parts = [f"GPUs {format_list(gpus)}"] if gpus else []
    parts += [f"CPUs {format_list(cpus)}"] if cpus else []
    places = [f"host {host}"] if host else []
    places += [" and ".join(parts)] if parts else []
    return ", ".join(places)


def _restart(event: WorkersFailed) -> str:
    what = event.failure.reason if event.failure is not None else "the workers failed"
    if not event.again:
        return f"{what}; not restarted: {event.reason}"
    when = f"in {duration(event.after)}" if event.after else "at once"
    return f"{what}; workers restarted {when}: {event.reason}"


def _lose(event: AttemptLost) -> str:
    when = f"in {duration(event.after)}" if event.after else "at once"
    why = f": {event.decision}" if event.decision else ""
    return f"attempt {event.attempt + 1} lost: {event.reason}; tried again {when}{why}"


def _hold_up(event: StartsHeldUp) -> str:
    return f"no job can be started: {event.reason}" if event.reason else "jobs can be started again"


def _end(event: JobEnded) -> str:
    said = f"{event.state} after {duration(event.seconds)}"
    said += f": {event.reason}" if event.reason else ""
    return said + (f"; not tried again: {event.decision}" if event.decision else "")


def _ask(event: StopAsked) -> str:
    what = "it" if event.nums else "the sweep"
    return f"{event.by} asked to stop {what}" + (f": {event.reason}" if event.reason else "")


_SENTENCES: dict[type[Event], Callable[[Any], str]] = {
    SweepBegan: _begin,
    JobComposed: _compose,
    AttemptStarted: _start,
    WorkersStarted: lambda event: "the first worker runs",
    WorkersBound: lambda event: f"{len(event.workers)} workers bound; bindings.json in its logs says to what",
    WorkersFailed: _restart,
    AttemptLost: _lose,
    StartsHeldUp: _hold_up,
    StoreOpened: lambda event: f"its nodes meet at {event.endpoint}",
    StacksWritten: lambda event: "stacks written, as somebody has asked for them",
    StopAsked: _ask,
    JobsLeftOut: lambda event: f"not started: {event.reason}",
    SweepStopped: lambda event: f"the launcher was stopped: {event.reason}",
    RequeueAsked: lambda event: f"Slurm job {event.slurm_job} was put back into the queue, since {event.reason}",
    JobEnded: _end,
}
"""What is told of each event; of others nothing is."""


def why_now(sweep: SweepOverview, job: JobOverview, now: float) -> str:
    """Say why a job that has not ended waits, or since when it runs; nothing where its events tell all.

    Args:
        sweep: the job's.
        job: the job.
        now: the time, in seconds since the epoch.
    """
    state = sweep.state_of(job)
    if state == "lost":
        return "its launcher died while it ran; `elastic-hydra resume` runs it again"
    if state == "not started" and job.state == "waiting":
        why = "was stopped" if sweep.stopped is not None else "died"
        return f"the launcher {why} before its turn came; `elastic-hydra resume` runs it"
    if state == "running":
        return _why_running(sweep, job, now)
    return _why_waiting(sweep, job, now) if state == "waiting" else ""


def _why_running(sweep: SweepOverview, job: JobOverview, now: float) -> str:
    if job.not_before > now:
        return f"its workers are restarted in {duration(job.not_before - now)}"
    left = TimeLeft(sweep, now)
    to_go = left.of_job(job)
    usual = "" if left.usual is None else f"; others took {duration(left.usual)}"
    return f"runs for {duration(job.seconds(now))}{usual}" + (f", so {duration(to_go)} are left" if to_go else "")


def _why_waiting(sweep: SweepOverview, job: JobOverview, now: float) -> str:
    if sweep.held_up:
        return f"waits: no job can be started: {sweep.held_up}"
    if job.not_before > now:
        return f"waits {duration(job.not_before - now)} more before it is tried again: {job.decision}"
    running = sweep.running()
    before = sum(other.state == "waiting" for other in _until(sweep, job))
    queue = f"; {before} {'job waits' if before == 1 else 'jobs wait'} before it" if before else ""
    if (end := sweep.hosts.too_short_until(job.duration, now)) is not None and job.duration is not None:
        hosts = f"the time of all hosts is over {moment(end, now)}, and it takes {duration(job.duration)}"
        return f"waits for another host: {hosts} (hydra.launcher.resources.duration)"
    if not running and sweep.hosts.pending:
        return f"waits for a host: {pending_in_words(sweep.hosts.pending, now)}{queue}"
    if not running:
        return f"waits for its turn{queue}"
    names = ", ".join(f"#{other.num}" for other in running[:_SHOWN]) + (", …" if len(running) > _SHOWN else "")
    run = f"{len(running)} {'job runs' if len(running) == 1 else 'jobs run'} ({names})"
    if sweep.parallel == str(len(running)):
        return f"waits for its turn: {run}, and hydra.launcher.parallel={sweep.parallel}{queue}"
    needs = f": it needs {job.needs}" if job.needs else ""
    held = sorted({gpu for other in running for gpu in other.gpus})
    return f"waits for room{needs}; {run}{f' and hold GPUs {format_list(held)}' if held else ''}{queue}"


def _until(sweep: SweepOverview, job: JobOverview) -> Iterator[JobOverview]:
    for other in sweep.jobs.values():
        if other is job:
            return
        yield other
