"""Limits for a running job: each border, and what is said beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.problems import Problems
from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.watch import Action, WatchConfig, check_watch

SECONDS = "must be more than 0 (seconds), or null"
SIZE = "must be a size such as 16GB, 512MiB, or a number of bytes, more than 0"
PROGRESS = "heartbeat, output, cpu"
NO_RESTARTS = "nothing is restarted with hydra.launcher.retry.max_restarts=0: pick a retry profile"


def lines(retry: RetryConfig, **settings: Any) -> list[str]:
    problems = Problems()
    check_watch(WatchConfig(**settings), retry, problems)
    return [line.removeprefix("hydra.launcher.watch.") for line in problems.lines]


def test_the_defaults_are_right() -> None:
    assert lines(RetryConfig()) == []


@pytest.mark.parametrize("key", ["time_limit", "start_up_limit", "progress_limit", "interval"])
def test_a_limit_is_more_than_nothing(key: str) -> None:
    assert lines(RetryConfig(), **{key: 0.001}) == []
    assert lines(RetryConfig(), **{key: 0}) == [f"{key}=0: {SECONDS}"]
    assert lines(RetryConfig(), **{key: -1.5}) == [f"{key}=-1.5: {SECONDS}"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"memory_limit": "1B"}, []),
        ({"memory_limit": "16GB"}, []),
        ({"memory_limit": "0GB"}, [f"memory_limit=0GB: {SIZE}"]),
        ({"memory_limit": 0}, [f"memory_limit=0: {SIZE}"]),
        ({"memory_limit": "much"}, [f"memory_limit=much: {SIZE}"]),
        ({"progress": ["cpu"]}, []),
        ({"progress": []}, [f"progress=[]: must be at least one of {PROGRESS}"]),
        ({"progress": ["outputs", "cpu"]}, [f"progress=outputs: must be of {PROGRESS} (did you mean output?)"]),
        ({"time_limit": 5, "action": Action.restart}, [f"action=restart: {NO_RESTARTS}"]),
        ({"time_limit": 5, "action": Action.fail}, []),
        ({"action": Action.restart}, []),  # there is no limit, so nothing follows
    ],
)
def test_each_key_says_what_it_may_be(settings: dict[str, Any], expected: list[str]) -> None:
    assert lines(RetryConfig(), **settings) == expected


def test_a_restart_needs_one_that_is_allowed() -> None:
    assert lines(RetryConfig(max_restarts=1), time_limit=5, action=Action.restart) == []
