"""Keys that hold for a whole sweep: each border, and what is said of jobs that differ from their sweep."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from elastic_hydra.config.problems import Problems
from elastic_hydra.config.whole_sweep import WHOLE_SWEEP, check_whole_sweep, differing, whole_sweep_of
from tests.config.settings import settings

DEFAULTS = whole_sweep_of(settings())
FAILURES = "must be a number of jobs, a fraction below 1 such as 0.1, or null"
METHODS = "must be one of warm, fork, forkserver, spawn, inline"
MODES = "must be one of false, true, failed, interrupted, all"


def lines(key: str, value: Any) -> list[str]:
    problems = Problems()
    check_whole_sweep({**DEFAULTS, key: value}, problems)
    return [line.removeprefix("hydra.launcher.") for line in problems.lines]


def test_each_key_is_read_from_its_group() -> None:
    changed = whole_sweep_of(settings(stagger=7.0, resources__jobs_per_gpu=3, numa__reserve_cores=2))
    assert tuple(changed) == WHOLE_SWEEP
    wanted = {"stagger": 7.0, "resources.jobs_per_gpu": 3, "numa.reserve_cores": 2}
    assert changed == {**DEFAULTS, **wanted}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *DEFAULTS.items(),
        ("parallel", "auto"),
        ("stagger", 0),
        ("resources.gpu_memory_wait", 0),
        ("resources.jobs_per_gpu", 1),
        ("numa.reserve_cores", 0),
        *[("start_method", method) for method in ("warm", "fork", "forkserver", "spawn")],
        *[("preload", names) for names in (["torch"], ["a.b_c", "_d"], ["é"])],
        *[("on_failure", word) for word in ("continue", "stop")],
        *[("resume", mode) for mode in (True, False, "True", "failed", "interrupted", "all")],
        ("requeue", "auto"),
        *[("requeue_limit", number) for number in (1, None)],
        *[("max_failures", number) for number in (0, 3, "999999999", 0.1, ".5")],
        *[("signals_to_handle", names) for names in ([], ["SIGTERM", "SIGUSR1"], ["SIGRTMIN"])],
    ],
    ids=str,
)
def test_what_may_be_said_passes(key: str, value: Any) -> None:
    assert lines(key, value) == []


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("parallel", 0, "parallel=0: must be 1 or more, or auto"),
        ("preload", ["a-b"], "preload=a-b: must be a list of modules, as [package, package.module]"),
        ("preload", ["a."], "preload=a.: must be a list of modules, as [package, package.module]"),
        ("stagger", -0.5, "stagger=-0.5: must be 0 or more (seconds)"),
        ("resources.gpu_memory_wait", -1, "resources.gpu_memory_wait=-1: must be 0 or more (seconds)"),
        ("resources.jobs_per_gpu", 0, "resources.jobs_per_gpu=0: must be 1 or more"),
        ("numa.reserve_cores", -1, "numa.reserve_cores=-1: must be 0 or more"),
        ("start_method", "frok", f"start_method=frok: {METHODS} (did you mean fork?)"),
        ("on_failure", "stopp", "on_failure=stopp: must be one of continue, stop (did you mean stop?)"),
        ("requeue", "always", "requeue=always: must be one of never, auto"),
        ("requeue_limit", 0, "requeue_limit=0: must be 1 or more, or null"),
        ("resume", "fialed", f"resume=fialed: {MODES} (did you mean failed?)"),
        *[
            ("max_failures", number, f"max_failures={number}: {FAILURES}")
            for number in (1.5, -1, "1000000000", "0.", "x")
        ],
        (
            "signals_to_handle",
            ["SIGTREM"],
            "signals_to_handle=SIGTREM: no signal that can be handled (did you mean SIGTERM?)",
        ),
    ],
)
def test_what_may_not_be_said_is_refused(key: str, value: Any, line: str) -> None:
    assert lines(key, value) == [line]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_nobody_can_handle_are_refused(number: signal.Signals) -> None:
    (line,) = lines("signals_to_handle", ["SIGTERM", number.name])
    assert line.startswith(f"signals_to_handle={number.name}: no signal that can be handled")


ADVICE = "set it once, on the command line or in the primary configuration, and in nothing that is swept"


def difference(*jobs: dict[str, Any]) -> list[str]:
    problems = Problems()
    differing(DEFAULTS, {f"#{num}": {**DEFAULTS, **job} for num, job in enumerate(jobs)}, problems)
    return problems.lines


def test_jobs_that_say_the_same_as_their_sweep_are_right() -> None:
    assert difference({}, {}) == []


def test_each_key_that_differs_is_told_with_each_value_and_the_first_job_that_has_it() -> None:
    jobs: list[dict[str, Any]] = [{}, {"parallel": 2, "resume": "all"}, {"parallel": 2}, {"parallel": "auto"}]
    assert difference(*jobs) == [
        f"hydra.launcher.parallel=1: holds for the whole sweep, but is 2 in job #1, auto in job #3; {ADVICE}",
        f"hydra.launcher.resume=false: holds for the whole sweep, but is all in job #1; {ADVICE}",
    ]
