"""What attempts have gone through, which slots they held, and where the time of the slots went."""

from __future__ import annotations

import pytest

from elastic_hydra.journal.events import (
    AttemptLost,
    AttemptStarted,
    Event,
    FailedWorker,
    JobEnded,
    SweepBegan,
    WorkersFailed,
    WorkersStarted,
)
from elastic_hydra.report.attempts import Attempt, Attempts
from elastic_hydra.report.failures import grouped
from elastic_hydra.report.goodput import Goodput
from elastic_hydra.report.lanes import in_lanes

BEGAN = SweepBegan(time=0.5)
KILLED = FailedWorker(kind="signal", reason="rank 1 was killed")


def start(at: float, num: int = 0, attempt: int = 0, gpus: tuple[int, ...] = (), cpus: tuple[int, ...] = ()) -> Event:
    return AttemptStarted(time=at, num=num, attempt=attempt, gpus=gpus, cpus=cpus)


def work(at: float, num: int = 0) -> Event:
    return WorkersStarted(time=at, num=num)


def fail(at: float, num: int = 0, again: bool = True) -> Event:
    return WorkersFailed(time=at, num=num, again=again, failure=KILLED)


def lost(at: float, num: int = 0) -> Event:
    return AttemptLost(time=at, num=num, kind="agent", reason=f"its agent (pid {num}) was lost")


def end(at: float, num: int = 0, state: str = "finished", reason: str = "", traceback: str | None = None) -> Event:
    return JobEnded(time=at, num=num, state=state, reason=reason, traceback=traceback)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "now", "expected"),
    [
        pytest.param([work(2), end(5)], None, [[(1, 2, "start-up"), (2, 5, "useful")]], id="finished"),
        pytest.param([work(2), end(5, state="failed")], None, [[(1, 2, "start-up"), (2, 5, "lost")]], id="failed"),
        pytest.param(
            [work(2), fail(4), work(6), end(9)],
            None,
            [[(1, 2, "start-up"), (2, 4, "lost"), (4, 6, "start-up"), (6, 9, "useful")]],
            id="restarted",
        ),
        pytest.param(
            [work(2), lost(4), start(5, attempt=1), work(6), end(9)],
            None,
            [[(1, 2, "start-up"), (2, 4, "lost")], [(5, 6, "start-up"), (6, 9, "useful")]],
            id="second attempt",
        ),
        pytest.param([work(2)], 8, [[(1, 2, "start-up"), (2, 8, "useful")]], id="running"),
        pytest.param([], 8, [[(1, 8, "useful")]], id="starts of workers are not recorded"),
        pytest.param([fail(3), end(9)], None, [[(1, 3, "lost"), (3, 9, "useful")]], id="nor are restarts"),
        pytest.param([work(2), end(5, num=7)], None, [[(1, 2, "start-up"), (2, 5, "lost")]], id="launcher was killed"),
        pytest.param(
            [work(2), end(4, num=7), SweepBegan(time=50.0, resume=True), start(51), work(52), end(60)],
            None,
            [[(1, 2, "start-up"), (2, 4, "lost")], [(51, 52, "start-up"), (52, 60, "useful")]],
            id="resumed after its launcher was killed",
        ),
        pytest.param(
            [work(2), end(4), SweepBegan(time=50.0), start(51), work(52), end(60)],
            None,
            [[(51, 52, "start-up"), (52, 60, "useful")]],
            id="another sweep began in the same directory",
        ),
    ],
)
def test_attempts_start_up_work_and_are_lost(
    events: list[Event], now: float | None, expected: list[list[tuple[float, float, str]]]
) -> None:
    found = Attempts([BEGAN, start(1), *events])
    found.end(now)
    stretches = [attempt.stretches(now or 0.0, found.starts_are_recorded) for attempt in found.attempts]
    assert [[(s.begin, s.end, s.phase) for s in of_one] for of_one in stretches] == expected


def test_a_journal_without_times_says_nothing_about_them() -> None:
    found = Attempts([SweepBegan(time=0.0), start(0.0), end(0.0)])
    found.end(None)
    assert (found.attempts, found.launches) == ([], [])


def test_launchers_are_at_work_from_their_first_word_to_their_last() -> None:
    found = Attempts([BEGAN, start(1), end(9), SweepBegan(time=50.0, resume=True), start(51)])
    found.end(70.0)
    assert [(launch.begin, launch.end) for launch in found.launches] == [(0.5, 9.0), (50.0, 70.0)]
    assert found.pauses() == [(9.0, 50.0)]


def test_a_short_time_between_two_launchers_is_no_pause() -> None:
    found = Attempts([BEGAN, start(1), end(9), SweepBegan(time=9.5, resume=True), start(51)])
    assert found.pauses() == []


def attempt(
    num: int, begin: float, end: float | None, gpus: tuple[int, ...] = (), cpus: tuple[int, ...] = (), host: str = ""
) -> Attempt:
    return Attempt(num, 0, begin, {host: (gpus, cpus)}, end, "finished")


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], {}),
        ([attempt(0, 1, 2), attempt(1, 2, 3)], {"slot 1": [0, 1]}),
        ([attempt(0, 1, 3), attempt(1, 2, 4), attempt(2, 3, 4)], {"slot 1": [0, 2], "slot 2": [1]}),
        ([attempt(0, 1, None), attempt(1, 5, 6)], {"slot 1": [0], "slot 2": [1]}),
        (
            [attempt(0, 1, 2, gpus=(1,)), attempt(1, 1, 3, gpus=(0,)), attempt(2, 3, 4, gpus=(0, 1))],
            {"GPU 0": [1, 2], "GPU 1": [0, 2]},
        ),
        ([attempt(0, 1, 3, gpus=(0,)), attempt(1, 2, 3, gpus=(0,))], {"GPU 0 (1)": [0], "GPU 0 (2)": [1]}),
        (
            [attempt(0, 1, 3, cpus=(0, 1)), attempt(1, 1, 2, cpus=(2, 3)), attempt(2, 3, 4, cpus=(2, 3))],
            {"CPUs 0-1": [0], "CPUs 2-3": [1, 2]},
        ),
        (
            [
                attempt(0, 1, 3, gpus=(0,), host="n2"),
                attempt(1, 1, 2, gpus=(0,), host="n1"),
                attempt(2, 1, 2, host="n1"),
            ],
            {"n1 GPU 0": [1], "n1": [2], "n2 GPU 0": [0]},
        ),
    ],
)
def test_no_two_attempts_of_a_lane_overlap(attempts: list[Attempt], expected: dict[str, list[int]]) -> None:
    assert {name: [one.num for one in lane.attempts] for name, lane in in_lanes(attempts, 9.0)} == expected


def test_goodput_adds_up_to_the_time_of_all_slots() -> None:
    found = Attempts([BEGAN, start(1), work(2), end(6), start(1, num=1), work(3, num=1), end(8, num=1, state="failed")])
    found.end(None)
    stretches = [stretch for one in found.attempts for stretch in one.stretches(8.0)]
    goodput = Goodput.of(stretches, found.launches, slots=2)
    assert (goodput.useful, goodput.start_up, goodput.lost, goodput.idle) == (4.0, 3.0, 5.0, 3.0)
    assert goodput.total == 2 * 7.5
    assert goodput.ratio == 4 / 15
    assert (goodput + goodput).total == 30.0
    assert Goodput(0.0, 0.0, 0.0, 0.0).ratio == 0.0


def test_failures_that_look_alike_are_one_group() -> None:
    groups = grouped(
        [
            BEGAN,
            start(1, num=0),
            fail(2, num=0),
            end(3, num=0, state="failed", reason="rank 0 raised KeyError: 5"),
            end(4, num=1, state="failed", reason="rank 1 raised KeyError: 17", traceback="Traceback"),
            lost(5, num=2),
            end(6, num=2),
        ]
    )
    assert [(group.reason, group.ended, group.retried, group.traceback) for group in groups] == [
        ("rank 0 raised KeyError: 5", [0, 1], [], "Traceback"),
        ("rank 1 was killed", [], [0], ""),
        ("its agent (pid 2) was lost", [], [2], ""),
    ]


def test_a_job_that_a_resumed_sweep_runs_again_has_not_ended_so() -> None:
    again = [SweepBegan(time=9.0, resume=True), start(10, num=1), end(11, num=1)]
    (group,) = grouped([BEGAN, end(4, num=1, state="failed", reason="why"), *again])
    assert (group.ended, group.retried) == ([], [1])
