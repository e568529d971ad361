"""Assignments at the least total cost: against all that there are, on small random tables."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from elastic_hydra.numa.assignment import assign, nearest, transport
from tests.numa.cheapest import cheapest_fill

SEEDS = range(40)


def table(dice, rows, columns):
    """Few different numbers, and rows that are equal: as the distances of real machines are."""
    prices = [dice.choices([0, 10, 12, 20, 21, 32], k=columns) for _ in range(max(1, rows // 2))]
    return [dice.choice(prices) for _ in range(rows)]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_row_gets_a_column_of_its_own_at_the_least_cost(seed):
    dice = random.Random(seed)
    rows = dice.randint(1, 5)
    costs = table(dice, rows, dice.randint(rows, 6))
    found = assign(costs)
    assert len(set(found)) == rows
    best = min(sum(map(list.__getitem__, costs, choice)) for choice in permutations(range(len(costs[0])), rows))
    assert sum(map(list.__getitem__, costs, found)) == best


def test_without_preferences_the_order_stays():
    assert assign([[0] * 4] * 3) == (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_that_come_one_after_the_other_all_together_have_the_nearest_gpus(seed):
    dice = random.Random(seed)
    size = dice.choice([1, 2, 2, 3])
    places, gpus = dice.randint(1, 5), dice.randint(size, 6)
    costs = table(dice, places, gpus)
    rows, columns = list(range(places)), list(range(gpus))
    spent, jobs = [], min(places, gpus // size)
    for left in range(jobs, 0, -1):
        row, chosen = nearest([[costs[row][column] for column in columns] for row in rows], size, left)
        assert len(set(chosen)) == size
        spent.append(sum(costs[rows[row]][columns[column]] for column in chosen))
        rows.pop(row)
        columns = [column for index, column in enumerate(columns) if index not in chosen]
    assert sum(spent) == cheapest_fill(costs, size)


def test_units_take_a_detour_where_that_is_cheaper_for_all():
    assert transport([2, 1], [2, 2], [[10, 11], [10, 99]], 3) == [[1, 1], [1, 0]]
    assert transport([2, 1], [2, 2], [[10, 11], [10, 99]], 1) == [[1, 0], [0, 0]]
