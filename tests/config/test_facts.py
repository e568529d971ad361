"""What the checks know of the host."""

from __future__ import annotations

import dataclasses

import pytest

from tests.config.settings import CPU_HOST


@pytest.mark.parametrize(
    ("quota", "cpus", "threads"),
    [(None, 5, 5), (4.0, 8, 4), (4.0, 4, 2), (4.0, 3, 1), (0.5, 8, 1), (8.0, 8, 8), (100.0, 8, 8), (3.9, 8, 3)],
)
def test_a_part_of_the_cpus_has_its_part_of_the_quota(quota: float | None, cpus: int, threads: int) -> None:
    assert dataclasses.replace(CPU_HOST, cpus=8, quota=quota).within_quota(cpus) == threads
