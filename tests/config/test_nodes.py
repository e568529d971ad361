"""How many nodes a job has: each border, and what is said beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.nodes import Nodes, nodes_of
from elastic_hydra.config.problems import Problems

FORM = "must be a number, or 'MIN:MAX'; in YAML with quotes"
ORDER = "must be 1 or more, and MIN not more than MAX"


@pytest.mark.parametrize(
    ("value", "nodes"),
    [(1, (1, 1)), ("2", (2, 2)), (" 1:4 ", (1, 4)), ("3:3", (3, 3)), ("999999999", (999999999, 999999999))],
)
def test_a_number_or_a_range_is_read(value: Any, nodes: tuple[int, int]) -> None:
    problems = Problems()
    assert nodes_of(value, problems) == nodes
    assert problems.lines == []


@pytest.mark.parametrize(
    ("value", "shown", "why"),
    [
        *[(value, str(value), FORM) for value in ("two", "2:", ":2", "1:2:3", 1.5, "1000000000")],
        (True, "true", FORM),
        (None, "null", FORM),
        *[(value, str(value), ORDER) for value in (0, -1, "0:2", "-1:2", "4:2", "1:-1")],
    ],
)
def test_anything_else_is_refused_and_one_node_is_assumed(value: Any, shown: str, why: str) -> None:
    problems = Problems()
    assert nodes_of(value, problems) == Nodes(1, 1)
    assert problems.lines == [f"hydra.launcher.nodes={shown}: {why}"]
