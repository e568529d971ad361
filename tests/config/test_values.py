"""Values as people write them: each border."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.values import LARGEST, count, sexagesimal, value_at


@pytest.mark.parametrize(
    ("value", "least", "number"),
    [
        (0, 0, 0),
        (0, 1, None),
        (1, 1, 1),
        ("07", 1, 7),
        (LARGEST, 1, LARGEST),
        (str(LARGEST), 1, LARGEST),
        (LARGEST + 1, 1, None),
        ("00000000001", 0, None),  # more digits than any number that is allowed
        (-1, 0, None),
        (True, 0, None),
        (1.0, 0, None),
        ("", 0, None),
        (" 1", 0, None),
        ("1x", 0, None),
        (None, 0, None),
    ],
)
def test_a_count_is_a_whole_number_from_the_least_to_the_largest(value: Any, least: int, number: int | None) -> None:
    assert count(value, least) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (59, None),
        (60, "1:0"),
        (62, "1:2"),
        (121, "2:1"),
        (3599, "59:59"),
        (3600, None),
        (62.0, None),
        ("62", None),
        (True, None),
    ],
)
def test_a_number_in_base_60_is_told_as_it_was_meant(value: Any, text: str | None) -> None:
    assert sexagesimal(value) == text


@pytest.mark.parametrize(("key", "value"), [("a", {"b": {"c": 1}}), ("a.b", {"c": 1}), ("a.b.c", 1)])
def test_a_value_is_found_below_its_groups(key: str, value: Any) -> None:
    assert value_at({"a": {"b": {"c": 1}}}, key) == value
