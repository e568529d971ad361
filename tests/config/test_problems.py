"""How problems are collected and told."""

from __future__ import annotations

import enum

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import Problems, shown


class Color(enum.Enum):
    red = "crimson"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (1.5, "1.5"),
        ("Text", "Text"),
        (Color.red, "crimson"),
    ],
)
def test_a_value_is_shown_as_it_stands_in_yaml(value: object, text: str) -> None:
    assert shown(value) == text


def test_all_problems_are_told_at_once_and_each_once() -> None:
    problems = Problems()
    problems.add("nodes", None, "must be given")
    problems.require(False, "parallel", 0, "must be more")
    problems.require(True, "stagger", 0, "must be more")
    problems.add("nodes", None, "must be given")
    with pytest.raises(ConfigError) as caught:
        problems.raise_any()
    assert str(caught.value) == "hydra.launcher.nodes=null: must be given\nhydra.launcher.parallel=0: must be more"


def test_where_nothing_is_wrong_nothing_is_raised() -> None:
    Problems().raise_any()


@pytest.mark.parametrize(
    ("value", "lines"), [(2, []), (3, []), (1, ["hydra.launcher.nodes=1: must be 2 or more (seconds)"])]
)
def test_a_number_has_a_least_value(value: int, lines: list[str]) -> None:
    problems = Problems()
    problems.at_least(2, "nodes", value, " (seconds)")
    assert problems.lines == lines


def test_a_least_value_needs_no_unit() -> None:
    problems = Problems()
    problems.at_least(2, "nodes", 1)
    assert problems.lines == ["hydra.launcher.nodes=1: must be 2 or more"]


@pytest.mark.parametrize(
    ("value", "what", "lines"),
    [
        ("warm", "", []),
        ("worm", "", ["hydra.launcher.method=worm: must be one of warm, fork (did you mean warm?)"]),
        ("zzz", "", ["hydra.launcher.method=zzz: must be one of warm, fork"]),
        ("fork ", "must be ours", ["hydra.launcher.method=fork : must be ours (did you mean fork?)"]),
        (None, "", ["hydra.launcher.method=null: must be one of warm, fork"]),
    ],
)
def test_one_of_some_words_and_the_nearest_is_suggested(value: object, what: str, lines: list[str]) -> None:
    problems = Problems()
    problems.one_of("method", value, ("warm", "fork"), what)
    assert problems.lines == lines


@pytest.mark.parametrize(("value", "ok"), [(None, True), ("a", True), (" a ", True), ("", False), ("  ", False)])
def test_a_text_is_null_or_not_empty(value: str | None, ok: bool) -> None:
    problems = Problems()
    problems.not_blank("role", value)
    assert problems.lines == ([] if ok else ["hydra.launcher.role='': must not be empty; null is the default"])
