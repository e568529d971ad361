"""Overrides as names and values."""

from __future__ import annotations

import pytest

from elastic_hydra.report.parameters import Plain, parameters, swept, typed


def test_overrides_are_names_and_texts() -> None:
    given = ["lr=0.1", "+model=big", "++a.b=x=y", "~old", "db@source=sql"]
    assert parameters(given) == {"lr": "0.1", "model": "big", "a.b": "x=y", "~old": "", "db@source": "sql"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-20", -20),
        ("1_000", 1000),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("2.", 2.0),
        ("True", True),
        ("false", False),
        ("null", None),
        ("'1'", "1"),
        ("adam", "adam"),
        ("[1,2]", "[1,2]"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("", ""),
        ("e5", "e5"),
        ("'", "'"),
    ],
)
def test_texts_have_the_types_that_hydra_gives_them(text: str, value: Plain) -> None:
    assert typed(text) == value
    assert type(typed(text)) is type(value)


@pytest.mark.parametrize(
    ("jobs", "names"),
    [
        ([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}], ["b"]),
        ([{"a": "1"}, {"a": "1", "b": "2"}], ["b"]),
        ([{"a": "1"}], ["a"]),
        ([{"a": "1"}, {"a": "1"}], []),
        ([], []),
    ],
)
def test_what_was_swept_differs_between_jobs(jobs: list[dict[str, str]], names: list[str]) -> None:
    assert swept(jobs) == names
