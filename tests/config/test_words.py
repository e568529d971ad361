"""Words for failures: which can mean something, and which are names of classes."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.words import GROUPS, WORDS, Kind, is_class_name, is_word


@pytest.mark.parametrize("word", [*(kind.value for kind in Kind), *GROUPS, *WORDS])
def test_kinds_and_groups_are_words(word: str) -> None:
    assert is_word(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0, True),
        (255, True),
        (256, False),
        (-64, True),
        (-65, False),
        ("255", True),
        (" -64 ", True),
        ("256", False),
        ("1234567890", False),
        ("--1", False),
        (1.0, False),
        (True, False),
        (None, False),
        ("SIGKILL", True),
        (" SIGRTMIN ", True),
        ("SIGNONE", False),
        ("Error", True),
        ("a.b_c.Error2", True),
        ("a.b.", False),
        (".Error", False),
        ("a..Error", False),
        ("error", False),
        ("2Error", False),
        ("an Error", False),
    ],
)
def test_codes_signals_and_classes_are_words_within_their_borders(word: Any, expected: bool) -> None:
    assert is_word(word) is expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Error", True),
        (" a.b_c.Error ", True),
        ("oom", False),
        ("a.Error.oom", False),
        ("SIGKILL", False),
        ("SIGNAL", False),  # signals have all names of this kind
        ("sigError", False),
        ("XXError", True),
        ("75", False),
        (75, False),
    ],
)
def test_only_the_name_of_a_class_begins_with_a_capital(word: Any, expected: bool) -> None:
    assert is_class_name(word) is expected
