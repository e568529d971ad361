"""Whether what was seen of running workers exceeds a limit, as a table: no processes, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.watch import WatchConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.watch.limits import Look, Sign, exceeded, pause

NOW = 100.0


def look(*signs: Sign, **fields: Any) -> Look:
    return Look(**{"now": NOW, "job_started": 0.0, "group_started": 50.0, "signs": signs, **fields})


@pytest.mark.parametrize(
    ("settings", "seen", "expected"),
    [
        ({}, look(Sign(0)), None),
        ({"time_limit": 100}, look(), (Kind.timeout, None)),
        ({"time_limit": 101}, look(), None),
        ({"memory_limit": 10**9}, look(memory=2 * 10**9), (Kind.oom, None)),
        ({"memory_limit": 10**9}, look(memory=10**9), None),
        ({"memory_limit": 10**9}, look(), None),
        ({"start_up_limit": 50}, look(Sign(0, beat=60.0), Sign(1)), (Kind.start_up, 1)),
        ({"start_up_limit": 50}, look(Sign(0, beat=60.0), Sign(1, output=60.0)), None),
        ({"start_up_limit": 51}, look(Sign(0)), None),
        ({"progress_limit": 10}, look(Sign(0, beat=90.0)), (Kind.hang, 0)),
        ({"progress_limit": 10}, look(Sign(0, beat=91.0)), None),
        ({"progress_limit": 10}, look(Sign(0, beat=10.0, cpu=95.0)), None),
        ({"progress_limit": 10, "progress": ["heartbeat"]}, look(Sign(0, beat=10.0, cpu=95.0)), (Kind.hang, 0)),
        ({"progress_limit": 10}, look(Sign(0, cpu=95.0), Sign(1, cpu=80.0)), (Kind.hang, 1)),
        # Rank 0 alone prints, or calls heartbeat(): it speaks for all.
        ({"progress_limit": 10, "progress": ["output"]}, look(Sign(0, output=95.0), Sign(1)), None),
        ({"progress_limit": 10, "progress": ["heartbeat"]}, look(Sign(0, beat=95.0), Sign(1)), None),
        # Each that calls heartbeat() speaks for itself.
        (
            {"progress_limit": 10, "progress": ["heartbeat"]},
            look(Sign(0, beat=95.0), Sign(1, beat=60.0)),
            (Kind.hang, 1),
        ),
        # Before the first sign the start counts.
        ({"progress_limit": 49}, look(Sign(0)), (Kind.hang, 0)),
        ({"progress_limit": 51}, look(Sign(0)), None),
        # All stand still: one that the operating system has stopped is the culprit.
        ({"progress_limit": 10}, look(Sign(0, cpu=80.0), Sign(1, cpu=81.0, state="stopped")), (Kind.hang, 1)),
        ({"progress_limit": 10}, look(), None),
        # Rank 0, which printed, has just ended: the others get their own time.
        ({"progress_limit": 10, "progress": ["output"]}, look(Sign(1), last_end=91.0), None),
        ({"progress_limit": 10, "progress": ["output"]}, look(Sign(1), last_end=90.0), (Kind.hang, 1)),
    ],
)
def test_limits(settings: dict[str, Any], seen: Look, expected: tuple[Kind, int | None] | None) -> None:
    found = exceeded(WatchConfig(**settings), seen)
    assert [(overrun.kind, overrun.rank) for overrun in found] == ([] if expected is None else [expected])


def test_several_limits_are_reported_the_worst_first() -> None:
    config = WatchConfig(time_limit=1, memory_limit=1, progress_limit=1)
    found = exceeded(config, look(Sign(0), memory=2))
    assert [overrun.kind for overrun in found] == [Kind.timeout, Kind.oom, Kind.hang]


def test_reasons_name_ranks_figures_and_the_key() -> None:
    (hang,) = exceeded(WatchConfig(progress_limit=10), look(Sign(0, cpu=85.0), Sign(1, cpu=80.0)))
    assert hang.reason == "ranks 0, 1 made no progress (heartbeat, output, cpu) for 20.0 s: watch.progress_limit=10"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"time_limit": 130}, 30.0),
        ({"time_limit": 10}, 0.0),
        ({"progress_limit": 600}, 5.0),
        ({"progress_limit": 2}, 0.2),
        ({"start_up_limit": 1}, 0.1),
        ({"memory_limit": 1}, 1.0),
        ({"progress_limit": 600, "memory_limit": 1}, 1.0),
        ({"progress_limit": 600, "interval": 30}, 30.0),
        ({"progress_limit": 600, "time_limit": 102}, 2.0),
    ],
)
def test_nobody_looks_oftener_than_needed(settings: dict[str, Any], expected: float | None) -> None:
    assert pause(WatchConfig(**settings), NOW, 0.0) == expected
