"""The least total cost of jobs with several GPUs each, by trying all that there is: for small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations


def cheapest_fill(costs: Sequence[Sequence[int]], size: int) -> int:
    """What as many jobs as fit cost together.

    Args:
        costs: Of a GPU (column) for a job in a place (row).
        size: GPUs per job, 1 or more.
    """

    @cache
    def rest(place: int, free: frozenset[int], jobs: int) -> int:
        if not jobs:
            return 0
        if len(costs) - place < jobs:
            return 1 << 40
        here = (
            sum(costs[place][gpu] for gpu in chosen) + rest(place + 1, free.difference(chosen), jobs - 1)
            for chosen in combinations(sorted(free), size)
        )
        return min([rest(place + 1, free, jobs), *here])

    gpus = frozenset(range(len(costs[0])))
    return rest(0, gpus, min(len(costs), len(gpus) // size))
