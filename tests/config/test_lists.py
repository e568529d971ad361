"""Lists of CPUs or nodes: each border, and that what is written is read back."""

from __future__ import annotations

import random
import re

import pytest

from elastic_hydra.config.lists import format_list, parse_list

LARGEST = 65535


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()),
        (",", ()),
        ("0", (0,)),
        ("5-5", (5,)),
        ("0-2,8", (0, 1, 2, 8)),
        ("8,0-2", (0, 1, 2, 8)),
        ("0-2,1-3", (0, 1, 2, 3)),
        (" 1 - 2 , 4 ", (1, 2, 4)),
        ("\0\t\r\n 1\0\t\r\n ", (1,)),
        (f"{LARGEST}", (LARGEST,)),
    ],
)
def test_a_list_is_read(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_list(text) == numbers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"0,{LARGEST + 1}", f"no machine has a number {LARGEST + 1}"),
        (f"0-{LARGEST + 1}", f"no machine has a number {LARGEST + 1}"),
        ("1, 3-2 ", "3-2 ends before it starts"),
        ("-1", "invalid literal for int() with base 10: ''"),
        ("1-", "invalid literal for int() with base 10: ''"),
        ("1-2-3", "invalid literal for int() with base 10: '2-3'"),
        ("x", "invalid literal for int() with base 10: 'x'"),
        ("X1X", "invalid literal for int() with base 10: 'X1X'"),
    ],
)
def test_what_is_no_list_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse_list(text)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((1, 0), "0-1"), ((0, 2), "0,2"), ((8, 2, 1, 0, 1), "0-2,8"), ((0, 1, 3, 4), "0-1,3-4")],
)
def test_a_list_is_written_as_short_as_it_can_be(numbers: tuple[int, ...], text: str) -> None:
    assert format_list(numbers) == text


def test_what_is_written_is_read_back() -> None:
    dice = random.Random(0)
    for _ in range(100):
        numbers = tuple(sorted(dice.sample(range(40), dice.randrange(30))))
        assert parse_list(format_list(numbers)) == numbers
