"""What may be retried, and how often: each border, and what is said beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.problems import Problems
from elastic_hydra.config.retry import BackoffConfig, RetryConfig, check_retry
from elastic_hydra.config.words import WORDS

WHAT = f"must be exception classes, exit codes, signals (SIGBUS), or of {', '.join(WORDS)}"


def lines(**settings: Any) -> list[str]:
    problems = Problems()
    check_retry(RetryConfig(**settings), problems)
    return [line.removeprefix("hydra.launcher.retry.") for line in problems.lines]


def backoff_lines(**settings: Any) -> list[str]:
    return [line.removeprefix("backoff.") for line in lines(backoff=BackoffConfig(**settings))]


def test_the_defaults_are_right() -> None:
    assert lines() == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_restarts": 0}, []),
        ({"max_restarts": -1}, ["max_restarts=-1: must be 0 or more"]),
        ({"max_attempts": 1}, []),
        ({"max_attempts": 0}, ["max_attempts=0: must be 1 or more"]),
        ({"window": 0.5}, []),
        ({"window": 0}, ["window=0: must be more than 0 (seconds), or null"]),
        ({"window": -1}, ["window=-1: must be more than 0 (seconds), or null"]),
        ({"min_uptime": 0}, []),
        ({"min_uptime": -0.5}, ["min_uptime=-0.5: must be 0 or more (seconds)"]),
        ({"only_on": ["oom", 75, "SIGBUS", "ValueError"]}, []),
        ({"only_on": ["omo"]}, [f"only_on=omo: {WHAT} (did you mean oom?)"]),
        ({"never_on": ["SIGBUSS"]}, [f"never_on=SIGBUSS: {WHAT} (did you mean SIGBUS?)"]),
        (
            {"only_on": ["omo"], "never_on": ["omo"]},
            [f"only_on=omo: {WHAT} (did you mean oom?)", f"never_on=omo: {WHAT} (did you mean oom?)"],
        ),
    ],
)
def test_each_key_says_what_it_may_be(settings: dict[str, Any], expected: list[str]) -> None:
    assert lines(**settings) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"initial": 0, "maximum": 0}, []),
        ({"initial": -1, "maximum": 0}, ["initial=-1: must be 0 or more"]),
        ({"factor": 1}, []),
        ({"factor": 0.9}, ["factor=0.9: must be 1 or more"]),
        ({"initial": -2, "maximum": -1}, ["initial=-2: must be 0 or more", "maximum=-1: must be 0 or more"]),
        ({"initial": 5, "maximum": 5}, []),
        ({"initial": 5, "maximum": 4.5}, ["maximum=4.5: must not be less than initial=5"]),
        ({"jitter": 0}, []),
        ({"jitter": 1}, []),
        ({"jitter": -0.1}, ["jitter=-0.1: must be from 0 to 1"]),
        ({"jitter": 1.1}, ["jitter=1.1: must be from 0 to 1"]),
    ],
)
def test_the_wait_between_restarts_has_borders(settings: dict[str, Any], expected: list[str]) -> None:
    assert backoff_lines(**settings) == expected


def test_a_class_that_cannot_be_found_is_doubted() -> None:
    (line,) = lines(never_on=[" ValueErorr "])
    assert line.startswith("never_on= ValueErorr : ")
    assert "ValueError" in line
