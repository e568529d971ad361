"""Which row gets which column at the least total cost: exact solutions of assignment problems of one host's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

Costs = Sequence[Sequence[int]]
"""A cost per row and column; whole numbers, so that sums are exact."""
_FAR = 1 << 62
"""A cost that is larger than any sum of costs."""


def assign(costs: Costs) -> tuple[int, ...]:
    """Give each row a column of its own at the least total cost.

    Args:
        costs: At least as many columns as rows.

    Returns:
        The column of each row. Of equal rows, the earlier one gets the cheaper column; of equal columns, the earlier
        one is given first.
    """
    rows, columns = _alike(costs), _alike(list(zip(*costs, strict=True)))
    table = [[costs[row[0]][column[0]] for column in columns] for row in rows]
    flow = transport([len(row) for row in rows], [len(column) for column in columns], table, len(costs))
    unused = [iter(column) for column in columns]
    column_of_row: dict[int, int] = {}
    for row, shipped, prices in zip(rows, flow, table, strict=True):
        cheapest = sorted(range(len(columns)), key=prices.__getitem__)
        shipped_columns = chain.from_iterable([column] * shipped[column] for column in cheapest)
        for member, column in zip(row, shipped_columns, strict=True):
            column_of_row[member] = next(unused[column])
    return tuple(column_of_row[row] for row in range(len(costs)))


def nearest(costs: Costs, size: int, jobs: int) -> tuple[int, tuple[int, ...]]:
    """Choose a place and its GPUs for the next one of some equal jobs.

    The places and GPUs are chosen that cost least for all the jobs together. The next job takes the cheapest of these.

    Args:
        costs: A row per place, a column per GPU. Each place takes one job, and so does each GPU.
        size: GPUs of a job, 1 or more.
        jobs: Jobs to look ahead for, the next one included, 1 or more: there are places and GPUs for all of them.

    Returns:
        The row of the place, and the columns of the GPUs.
    """
    rows = list(range(len(costs))) if size == 1 or jobs == len(costs) else _cheapest_rows(costs, size, jobs)
    columns = _alike(list(zip(*costs, strict=True)))
    prices, flow = _fill(costs, rows, columns, size, jobs)
    total = {
        row: sum(units * price for units, price in zip(shipped, prices[row], strict=True))
        for row, shipped in zip(rows, flow, strict=True)
        if any(shipped)
    }
    chosen = min(total, key=lambda row: (total[row], row))
    shipped = flow[rows.index(chosen)]
    return chosen, tuple(sorted(chain.from_iterable(c[:n] for c, n in zip(columns, shipped, strict=True))))


def transport(supply: Sequence[int], capacity: Sequence[int], costs: Costs, amount: int) -> list[list[int]]:
    """Ship units from rows to columns at the least total cost (successive shortest paths).

    Args:
        supply: Units that each row has.
        capacity: Units that each column takes.
        costs: Of one unit from a row to a column.
        amount: Units to ship, at most the sum of `supply` and that of `capacity`.

    Returns:
        Units per row and column.
    """
    supply, capacity = list(supply), list(capacity)
    flow = [[0] * len(capacity) for _ in supply]
    while amount:
        path = _cheapest_path(flow, supply, capacity, costs)
        (first, _), (_, last) = path[-1], path[0]
        # Every second edge of the path takes back units that were shipped before.
        step = min(amount, supply[first], capacity[last], *(flow[row][column] for row, column in path[1::2]))
        for index, (row, column) in enumerate(path):
            flow[row][column] += step if index % 2 == 0 else -step
        supply[first] -= step
        capacity[last] -= step
        amount -= step
    return flow


def _cheapest_path(
    flow: Sequence[Sequence[int]], supply: Sequence[int], capacity: Sequence[int], costs: Costs
) -> list[tuple[int, int]]:
    """The edges (row, column) of the cheapest path from a column with room back to a row with supply (Bellman-Ford)."""
    rows, columns = range(len(supply)), range(len(capacity))
    to_row = [0 if supply[row] else _FAR for row in rows]
    to_column = [_FAR] * len(capacity)
    before_row: dict[int, int] = {}
    before_column: dict[int, int] = {}
    changed = True
    while changed:
        changed = False
        for row in rows:
            for column in columns:
                if to_row[row] < _FAR and to_row[row] + costs[row][column] < to_column[column]:
                    to_column[column], before_column[column] = to_row[row] + costs[row][column], row
                    changed = True
        for column in columns:
            for row in rows:
                if flow[row][column] and to_column[column] - costs[row][column] < to_row[row]:
                    to_row[row], before_row[row] = to_column[column] - costs[row][column], column
                    changed = True
    column = min((column for column in columns if capacity[column]), key=to_column.__getitem__)
    path = [(before_column[column], column)]
    while (row := path[-1][0]) in before_row:
        column = before_row[row]
        path += [(row, column), (before_column[column], column)]
    return path


def _cheapest_rows(costs: Costs, size: int, jobs: int) -> list[int]:
    """The `jobs` rows that cost least in total when each is filled with `size` columns: branch and bound."""
    columns = _alike(list(zip(*costs, strict=True)))
    equal: Counter[tuple[int, ...]] = Counter()
    bounds: list[tuple[int, int]] = []
    for row, prices in enumerate(map(tuple, costs)):
        # Equal rows compete for the same columns. So the second of them can at best get the columns that come next to
        # those of the first one.
        cheapest = sorted(prices)[equal[prices] * size :][:size]
        bounds.append((sum(cheapest) if len(cheapest) == size else _FAR, row))
        equal[prices] += 1
    bounds.sort()
    best: tuple[int, list[int]] = (_FAR * jobs + 1, [])

    def search(start: int, chosen: list[int], spent: int) -> None:
        nonlocal best
        left = jobs - len(chosen)
        if not left:
            prices, flow = _fill(costs, chosen, columns, size, jobs)
            pairs = zip(chosen, flow, strict=True)
            total = sum(n * price for row, shipped in pairs for n, price in zip(shipped, prices[row], strict=True))
            best = min(best, (total, chosen))
        for index in range(start, len(bounds) - left + 1) if left else ():
            if spent + sum(bound for bound, _ in bounds[index : index + left]) >= best[0]:
                return
            search(index + 1, [*chosen, bounds[index][1]], spent + bounds[index][0])

    search(0, [], 0)
    return best[1]


def _fill(
    costs: Costs, rows: Sequence[int], columns: Sequence[Sequence[int]], size: int, jobs: int
) -> tuple[dict[int, list[int]], list[list[int]]]:
    """The cost of a unit from each row to each class of equal columns, and the cheapest way to fill `jobs` rows."""
    prices = {row: [costs[row][column[0]] for column in columns] for row in rows}
    supply, capacity = [size] * len(rows), [len(column) for column in columns]
    return prices, transport(supply, capacity, [prices[row] for row in rows], jobs * size)


def _alike(vectors: Costs) -> list[list[int]]:
    """The indices of equal vectors, class by class."""
    classes: dict[tuple[int, ...], list[int]] = {}
    for index, vector in enumerate(vectors):
        classes.setdefault(tuple(vector), []).append(index)
    return list(classes.values())
