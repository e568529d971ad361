"""What the page about a sweep shows: facts for its text, and columns of numbers for its pictures and its table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from elastic_hydra.journal.events import Event, JobComposed, SweepBegan, WorkersBound
from elastic_hydra.journal.lines import Lines
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import cut
from elastic_hydra.report.attempts import Attempts
from elastic_hydra.report.failures import FailureGroup, grouped
from elastic_hydra.report.goodput import Goodput
from elastic_hydra.report.parameters import parameters, swept, typed
from elastic_hydra.report.table import number
from elastic_hydra.report.timeline import Timeline

__all__ = ["PageData", "page_data"]

_LONGEST_REASON = 300
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class PageData:
    """What the page about a sweep shows."""

    goodput: Goodput
    slots: int
    """How many there are: the most that were held at a time."""
    failures: list[FailureGroup]
    began: list[SweepBegan]
    """One for each launcher, in their order."""
    best: list[JobOverview]
    """The job with the best value; the jobs with the smallest and the largest value when nobody says what is better."""
    unusable: int
    """How many lines of the journals cannot be used."""
    columns: dict[str, Any]
    """For the page's program: see `common.js`."""


def page_data(sweep: SweepOverview, followers: Sequence[Follower], now: float) -> PageData:
    """Gather what the page about a sweep shows.

    Args:
        sweep: the sweep, from its first journal.
        followers: have read all of its journals: where several nodes share its directory, each launcher writes its own.
        now: the time, in seconds since the epoch.

    Raises:
        OSError: a journal cannot be read any more.
    """
    journals = [_events_of(follower) for follower in followers]
    timeline = Timeline(sweep.first_began or now, now)
    for follower, events in zip(followers, journals, strict=True):
        attempts = Attempts(events)
        attempts.end(now if follower.overview.state == "running" else None)
        timeline.add(attempts, follower.overview.host if len(journals) > 1 else "")
    given = [parameters(job.overrides) for job in sweep.jobs.values()]
    return PageData(
        timeline.goodput,
        len(timeline.lanes),
        list(itertools.chain.from_iterable(map(grouped, journals))),
        [event for event in journals[0] if isinstance(event, SweepBegan)],
        _best(sweep),
        sum(follower.unusable for follower in followers),
        {
            **timeline.columns(),
            "jobs": _jobs(sweep, now),
            "params": {name: [_drawn(job.get(name)) for job in given] for name in swept(given)},
        },
    )


def _events_of(follower: Follower) -> list[Event]:
    """Return what a journal says, without the configurations of jobs, which are large."""
    return [event for _, event in Lines(follower.path) if not isinstance(event, (JobComposed, WorkersBound))]


def _jobs(sweep: SweepOverview, now: float) -> dict[str, list[Any]]:
    jobs = list(sweep.jobs.values())
    seconds = [sweep.seconds(job, now) for job in jobs]
    return {
        "num": [job.num for job in jobs],
        "state": [sweep.state_of(job) for job in jobs],
        "value": [_shown(job.value) for job in jobs],
        "seconds": [round(s, 2) if job.started is not None else None for job, s in zip(jobs, seconds, strict=True)],
        "attempts": [job.attempt + 1 if job.started is not None else 0 for job in jobs],
        "restarts": [job.restarts for job in jobs],
        "reason": [cut(job.reason, _LONGEST_REASON) for job in jobs],
    }


def _best(sweep: SweepOverview) -> list[JobOverview]:
    numbered = sorted(_numbered(sweep), key=lambda pair: pair[0])
    if not numbered:
        return []
    maximize = sweep.began.maximize if sweep.began is not None else None
    (_, smallest), (_, largest) = numbered[0], numbered[-1]
    if len(numbered) == 1:
        return [smallest]
    return [smallest, largest] if maximize is None else [largest if maximize else smallest]


def _numbered(sweep: SweepOverview) -> Iterator[tuple[float, JobOverview]]:
    for job in sweep.jobs.values():
        value = number(job.value) if job.state == "finished" else None
        if value is not None:
            yield value, job


def _shown(value: Any) -> Any:
    """Return what the table shows of a value: a number as it is, anything else as a text."""
    if value is None or number(value) is not None:
        return value
    return cut(value if isinstance(value, str) else json.dumps(value), _LONGEST_VALUE)


def _drawn(text: str | None) -> Any:
    """Return what is drawn of a parameter's value: a number, or a text; None where a job does not have it."""
    if text is None:
        return None
    value = number(typed(text))
    return text if value is None else int(value) if value.is_integer() and "." not in text else value
