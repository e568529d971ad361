"""Durations and moments, whatever a journal says."""

from __future__ import annotations

import math

import pytest

from elastic_hydra.overview.words import cut, duration, moment


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf])
def test_what_is_no_time_is_not_told(seconds: float) -> None:
    assert (duration(seconds), moment(seconds, 1e9)) == ("?", "?")


def test_a_moment_of_another_day_has_its_date() -> None:
    now = 1_700_000_000.0
    assert len(moment(now - 1, now)) == len("12:00:00")
    assert len(moment(now - 200_000, now)) == len("2023-11-12 12:00:00")
    assert moment(0, now) == moment(1e300, now) == "?"


def test_a_text_is_one_line_of_its_width() -> None:
    assert cut("a\nb  c", 10) == "a b c"
    assert cut("abcdef", 4) == "abc…"
