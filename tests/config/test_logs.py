"""Where workers write: each border, and what is said beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.logs import LogsConfig, Streams, check_logs, line_prefix_of, streams_of
from elastic_hydra.config.problems import Problems

LEVELS = "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, OFF"
STREAMS = "must be 0 (nothing), 1 (stdout), 2 (stderr) or 3 (both), or {local rank: number}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"other_ranks_level": "warning"}, []),
        ({"other_ranks_level": "warn"}, [f"other_ranks_level=WARN: {LEVELS} (did you mean WARNING?)"]),
        ({"dir": " "}, ["dir='': must not be empty; null is the default"]),
        ({"local_ranks_filter": []}, []),
        ({"local_ranks_filter": [0, 5]}, []),
        ({"local_ranks_filter": [0, -1]}, ["local_ranks_filter=-1: must be local ranks, 0 or more"]),
    ],
)
def test_each_key_says_what_it_may_be(settings: dict[str, Any], expected: list[str]) -> None:
    problems = Problems()
    check_logs(LogsConfig(**settings), problems)
    assert [line.removeprefix("hydra.launcher.logs.") for line in problems.lines] == expected


@pytest.mark.parametrize(
    ("value", "streams"),
    [
        (0, 0),
        (3, 3),
        ("1", 1),
        ({}, {}),
        ({0: 3, "1": "0"}, {0: 3, 1: 0}),
        ("0:3,1:1", {0: 3, 1: 1}),
        ("0:3,", {0: 3}),
    ],
)
def test_streams_are_read(value: Any, streams: Streams) -> None:
    problems = Problems()
    assert streams_of("logs.tee", value, problems) == streams
    assert problems.lines == []


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (-1, ""),
        (4, ""),
        (63, '; YAML reads an unquoted 1:3 as 63: write "1:3"'),
        ("x", ""),
        (None, ""),
        ({-1: 1}, ""),
        ({0: 4}, ""),
        ({0: 1, 1: -1}, ""),
        ({"x": 1}, ""),
        ("0:1:2", ""),
        ("0:x", ""),
    ],
    ids=str,
)
def test_what_names_no_stream_is_refused_and_nothing_is_shown(value: Any, hint: str) -> None:
    problems = Problems()
    assert streams_of("logs.tee", value, problems) == 0
    shown = "null" if value is None else value
    assert problems.lines == [f"hydra.launcher.logs.tee={shown}: {STREAMS}{hint}"]


@pytest.mark.parametrize(
    ("given", "tee", "workers", "role", "prefix"),
    [
        ("", 3, 2, "eval", ""),
        (None, 3, 1, "default", "${job}: "),
        (None, 3, 2, "default", "${job} rank ${rank}: "),
        (None, 3, 2, "eval", "${job} ${role_name} rank ${rank}: "),
        (None, 0, 2, "eval", "${job}: "),
        (None, {0: 1, 1: 0}, 2, "default", "${job}: "),
        (None, {0: 1, 2: 1}, 2, "default", "${job}: "),  # there is no local rank 2
        (None, {0: 1, 2: 1}, 3, "default", "${job} rank ${rank}: "),
    ],
)
def test_a_line_says_whose_it_is_where_several_ranks_are_shown(
    given: str | None, tee: Streams, workers: int, role: str, prefix: str
) -> None:
    assert line_prefix_of(given, tee, workers, role) == prefix
