"""When a sweep of many jobs says how far it is: at its first end, at each twentieth, and after some minutes."""

from __future__ import annotations

from elastic_hydra.sweeps.milestones import Milestones


def reached(ends: list[tuple[int, float]], total: int) -> list[int]:
    milestones = Milestones()
    return [done for done, now in ends if milestones.reached(done, total, now)]


def test_a_fast_sweep_has_one_at_each_twentieth() -> None:
    assert reached([(done, 0.1 * done) for done in range(1, 501)], 500) == [1, *range(25, 501, 25)]


def test_a_slow_sweep_has_one_every_ten_minutes() -> None:
    assert reached([(done, 300.0 * done) for done in range(1, 9)], 500) == [1, 3, 5, 7]


def test_jobs_that_end_together_have_one() -> None:
    assert reached([(1, 0.0), (60, 1.0), (61, 2.0), (110, 3.0)], 1000) == [1, 60, 110]


def test_the_last_end_is_one() -> None:
    assert reached([(102, 0.0), (103, 1.0)], 103) == [102, 103]
