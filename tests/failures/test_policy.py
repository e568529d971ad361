"""Whether a failure is followed by a restart, as a table: no processes, no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from elastic_hydra.config.retry import BackoffConfig, RetryConfig
from elastic_hydra.config.words import Kind, is_word
from elastic_hydra.failures.classify import Failure
from elastic_hydra.failures.policy import Decision, backoff, decide, decide_attempt, in_time, matches

NOW = 1000.0


def failure(kind: Kind = Kind.exception, *names: str, **fields: Any) -> Failure:
    short = (*names, *(name.rpartition(".")[2] for name in names))
    return Failure(kind, "because", "host", NOW, **{"rank": 0, "uptime": 60.0, "names": short, **fields})


VALUE_ERROR = failure(Kind.exception, "ValueError", "Exception", exitcode=1)
MISSING = failure(Kind.exception, "ModuleNotFoundError", "ImportError", "Exception", exitcode=1)
KILLED = failure(Kind.signal, exitcode=-9, signal="SIGKILL")
CRASHED = failure(Kind.signal, exitcode=-11, signal="SIGSEGV")
OOM = failure(Kind.oom, exitcode=-9, signal="SIGKILL")
CUDA_OOM = failure(Kind.oom, "torch.OutOfMemoryError", "RuntimeError", exitcode=1)
EXIT_75 = failure(Kind.exit, exitcode=75)
EXIT_2 = failure(Kind.exit, exitcode=2)
NCCL = failure(Kind.exception, "torch.distributed.DistBackendError", "RuntimeError", exitcode=1, connection=True)
HANG = failure(Kind.hang)
TIMEOUT = failure(Kind.timeout)
LOST = failure(Kind.agent, rank=None)
PEER = failure(Kind.peer, rank=None)
PREEMPTED = failure(Kind.preempted, signal="SIGTERM", rank=None)
RENDEZVOUS = failure(Kind.rendezvous, "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError", rank=None)
CONFIG = failure(Kind.exception, "hydra.errors.ConfigCompositionException", "hydra.errors.HydraException", "Exception")
OMEGACONF = failure(
    Kind.exception, "omegaconf.errors.ConfigAttributeError", "omegaconf.errors.OmegaConfBaseException", "AttributeError"
)


@pytest.mark.parametrize(
    ("word", "what", "expected"),
    [
        ("exception", VALUE_ERROR, True),
        ("exception", KILLED, False),
        ("ValueError", VALUE_ERROR, True),
        ("Exception", VALUE_ERROR, True),
        ("ImportError", MISSING, True),
        ("KeyError", VALUE_ERROR, False),
        ("torch.OutOfMemoryError", CUDA_OOM, True),
        ("OutOfMemoryError", CUDA_OOM, True),
        ("oom", OOM, True),
        ("oom", CUDA_OOM, True),
        (75, EXIT_75, True),
        ("75", EXIT_75, True),
        (75, EXIT_2, False),
        (1, VALUE_ERROR, False),  # it is the exception that says what it was
        (-9, KILLED, True),
        ("SIGKILL", KILLED, True),
        ("SIGKILL", CRASHED, False),
        ("SIGTERM", PREEMPTED, False),
        ("preempted", PREEMPTED, True),
        ("deterministic", MISSING, True),
        ("deterministic", CONFIG, True),
        ("deterministic", OMEGACONF, True),
        ("deterministic", EXIT_2, True),
        ("deterministic", VALUE_ERROR, False),
        ("deterministic", EXIT_75, False),
        ("connection", NCCL, True),
        ("connection", PEER, True),
        ("connection", RENDEZVOUS, True),
        ("connection", KILLED, False),
        ("transient", NCCL, True),
        ("transient", KILLED, True),
        ("transient", CRASHED, True),
        ("transient", HANG, True),
        ("transient", PREEMPTED, True),
        ("transient", OOM, False),
        ("transient", CUDA_OOM, False),
        ("transient", VALUE_ERROR, False),
        ("transient", EXIT_75, False),
    ],
)
def test_words_mean_kinds_classes_codes_signals_and_groups(word: Any, what: Failure, expected: bool) -> None:
    assert matches(word, what) is expected


@pytest.mark.parametrize(
    ("settings", "what", "again", "reason"),
    [
        ({}, VALUE_ERROR, False, "max_restarts=0"),
        ({"max_restarts": 3}, VALUE_ERROR, True, "restart 1 of 3"),
        ({"max_restarts": 3}, MISSING, False, "never_on has deterministic: ModuleNotFoundError would happen again"),
        ({"max_restarts": 3}, EXIT_2, False, "exit code 2 would happen again"),
        ({"max_restarts": 3, "never_on": []}, MISSING, True, "restart 1 of 3"),
        ({"max_restarts": 3}, KILLED, True, "restart 1 of 3"),
        ({"max_restarts": 3}, NCCL, True, "restart 1 of 3"),
        ({"max_restarts": 3}, OOM, True, "restart 1 of 3"),
        ({"max_restarts": 3, "never_on": ["oom"]}, OOM, False, "never_on has oom"),
        ({"max_restarts": 3, "never_on": ["SIGSEGV"]}, CRASHED, False, "never_on has SIGSEGV"),
        ({"max_restarts": 3, "only_on": ["transient"]}, VALUE_ERROR, False, "only_on has only transient"),
        ({"max_restarts": 3, "only_on": ["transient"]}, KILLED, True, "restart 1 of 3"),
        ({"max_restarts": 3, "only_on": [75]}, EXIT_75, True, "restart 1 of 3"),
        ({"max_restarts": 3, "only_on": ["ImportError"]}, MISSING, False, "never_on"),  # it has the last word
        ({"max_restarts": 3}, TIMEOUT, False, "time is over"),
        ({"max_restarts": 3, "only_on": ["timeout"]}, TIMEOUT, False, "time is over"),
        ({"max_restarts": 1}, PREEMPTED, True, "does not count"),
        ({"max_restarts": 0}, PREEMPTED, False, "max_restarts=0"),
        ({"max_restarts": 3, "min_uptime": 61}, VALUE_ERROR, False, "lived 60.0 s, less than retry.min_uptime=61"),
        ({"max_restarts": 3, "min_uptime": 59}, VALUE_ERROR, True, "restart 1 of 3"),
        ({"max_restarts": 3, "min_uptime": 61}, NCCL, True, "restart 1 of 3"),  # not a fault of its own
        ({"max_restarts": 3, "min_uptime": 61}, PEER, True, "restart 1 of 3"),
    ],
)
def test_a_failure_is_retried_or_not_for_a_reason(
    settings: dict[str, Any], what: Failure, again: bool, reason: str
) -> None:
    decision = decide(RetryConfig(**settings), [], what, NOW)
    assert decision.again is again
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("window", "history", "again"),
    [(None, [1.0, 2.0], False), (None, [1.0], True), (100.0, [1.0, 2.0, 3.0], True), (100.0, [950.0, 990.0], False)],
)
def test_only_restarts_within_the_window_count(window: float | None, history: list[float], again: bool) -> None:
    decision = decide(RetryConfig(max_restarts=2, window=window), history, VALUE_ERROR, NOW)
    assert decision.again is again
    if window and not again:
        assert decision.reason == "all 2 restarts within 100 s are used up"


def test_restarts_of_preempted_nodes_do_not_count() -> None:
    decision = decide(RetryConfig(max_restarts=1), [NOW] * 5, PREEMPTED, NOW)
    assert decision.again
    assert not decision.counts


@pytest.mark.parametrize(("earlier", "expected"), [(0, 2.0), (1, 6.0), (2, 18.0), (3, 20.0), (5000, 20.0)])
def test_backoff_grows_up_to_its_maximum(earlier: int, expected: float) -> None:
    assert backoff(BackoffConfig(initial=2, factor=3, maximum=20, jitter=0.5), earlier, 0.5) == expected


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 5.0), (0.5, 10.0), (1.0, 15.0)])
def test_jitter_goes_both_ways(draw: float, expected: float) -> None:
    assert backoff(BackoffConfig(initial=10, jitter=0.5), 0, draw) == expected


def test_no_wait_unless_asked_for() -> None:
    assert decide(RetryConfig(max_restarts=1), [], VALUE_ERROR, NOW, draw=1.0).after == 0.0


@pytest.mark.parametrize(("attempts", "most", "again"), [(1, 1, False), (1, 2, True), (2, 2, False)])
def test_a_lost_agent_is_tried_again_as_often_as_allowed(attempts: int, most: int, again: bool) -> None:
    lost = failure(Kind.agent, rank=None)
    decision = decide_attempt(RetryConfig(max_attempts=most), attempts, lost)
    assert decision.again is again
    assert f"max_attempts={most}" in decision.reason or decision.reason == f"attempt {attempts + 1} of {most}"


@pytest.mark.parametrize("word", ["oom", "transient", 75, "75", -9, "SIGKILL", "ValueError", "my.module.Error"])
def test_words_that_can_mean_something_are_taken(word: Any) -> None:
    assert is_word(word)


@pytest.mark.parametrize("word", ["ooom", "SIGKIL", 300, "valueerror", "", "my.module.", "a b"])
def test_words_that_can_mean_nothing_are_refused(word: Any) -> None:
    assert not is_word(word)


@pytest.mark.parametrize("draw", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("earlier", "plain"), [(0, 2.0), (1, 6.0), (2, 18.0)])
def test_a_restart_waits_as_its_backoff_says(earlier: int, plain: float, draw: float) -> None:
    rules = RetryConfig(max_restarts=3, backoff=BackoffConfig(initial=2, factor=3, maximum=100, jitter=0.5))
    decision = decide(rules, [NOW] * earlier, VALUE_ERROR, NOW, draw)
    assert decision == Decision(True, f"restart {earlier + 1} of 3", plain * (0.5 + draw))
    attempt = decide_attempt(replace(rules, max_attempts=9), earlier + 1, LOST, draw)
    assert attempt == Decision(True, f"attempt {earlier + 2} of 9", plain * (0.5 + draw))


def test_without_a_draw_there_is_no_jitter() -> None:
    rules = RetryConfig(max_restarts=1, max_attempts=2, backoff=BackoffConfig(initial=2, jitter=1.0))
    assert decide(rules, [], VALUE_ERROR, NOW).after == 2.0
    assert decide_attempt(rules, 1, LOST).after == 2.0


@pytest.mark.parametrize(
    ("settings", "history", "what", "expected"),
    [
        ({}, [], VALUE_ERROR, Decision(False, "retry.max_restarts=0: nothing is restarted")),
        ({"max_restarts": 1}, [NOW], VALUE_ERROR, Decision(False, "all 1 restarts are used up")),
        ({"max_restarts": 1}, [NOW, NOW], VALUE_ERROR, Decision(False, "all 1 restarts are used up")),
        ({"max_restarts": 2}, [NOW], VALUE_ERROR, Decision(True, "restart 2 of 2")),
        ({"max_restarts": 1, "window": 9.5}, [NOW - 9.5], KILLED, Decision(True, "restart 1 of 1 within 9.5 s")),
        (
            {"max_restarts": 1, "window": 9.5},
            [NOW - 9.4],
            KILLED,
            Decision(False, "all 1 restarts within 9.5 s are used up"),
        ),
        (
            {"max_restarts": 1},
            [NOW],
            PREEMPTED,
            Decision(
                True, "a preempted node says nothing about the job: this restart does not count", 0.0, counts=False
            ),
        ),
        ({"max_restarts": 1}, [], TIMEOUT, Decision(False, "the job's time is over")),
        (
            {"max_restarts": 1},
            [],
            MISSING,
            Decision(False, "retry.never_on has deterministic: ModuleNotFoundError would happen again"),
        ),
        (
            {"max_restarts": 1},
            [],
            EXIT_2,
            Decision(False, "retry.never_on has deterministic: exit code 2 would happen again"),
        ),
        ({"max_restarts": 1, "never_on": [75, "oom"]}, [], OOM, Decision(False, "retry.never_on has oom")),
        ({"max_restarts": 1, "never_on": [75, "oom"]}, [], EXIT_75, Decision(False, "retry.never_on has 75")),
        (
            {"max_restarts": 1, "only_on": ["oom", 75]},
            [],
            KILLED,
            Decision(False, "retry.only_on has only oom, 75"),
        ),
        (
            {"max_restarts": 1, "min_uptime": 60.5},
            [],
            VALUE_ERROR,
            Decision(False, "it lived 60.0 s, less than retry.min_uptime=60.5: it never got started"),
        ),
        ({"max_restarts": 1, "min_uptime": 60}, [], VALUE_ERROR, Decision(True, "restart 1 of 1")),
    ],
)
def test_what_is_decided_and_said(
    settings: dict[str, Any], history: list[float], what: Failure, expected: Decision
) -> None:
    assert decide(RetryConfig(**settings), history, what, NOW) == expected


@pytest.mark.parametrize(
    ("settings", "attempts", "expected"),
    [
        ({"max_attempts": 1}, 1, Decision(False, "retry.max_attempts=1: no further attempt")),
        ({"max_attempts": 2}, 1, Decision(True, "attempt 2 of 2")),
        ({"max_attempts": 2}, 2, Decision(False, "retry.max_attempts=2: all are used up")),
        ({"max_attempts": 2}, 3, Decision(False, "retry.max_attempts=2: all are used up")),
        ({"max_attempts": 2, "never_on": ["agent"]}, 1, Decision(False, "retry.never_on has agent")),
    ],
)
def test_what_is_decided_and_said_when_an_agent_is_lost(
    settings: dict[str, Any], attempts: int, expected: Decision
) -> None:
    assert decide_attempt(RetryConfig(**settings), attempts, LOST) == expected


WAITS = Decision(True, "restart 1 of 1", after=5.0)
AT_ONCE = Decision(True, "restart 1 of 1")
NEVER = Decision(False, "all used up")


@pytest.mark.parametrize(
    ("decision", "left", "expected"),
    [
        (WAITS, None, WAITS),
        (WAITS, 5.1, WAITS),
        (WAITS, 5.0, Decision(False, "5.0 s are left of watch.time_limit, and the wait would be 5.0 s")),
        (WAITS, -1.0, Decision(False, "0.0 s are left of watch.time_limit, and the wait would be 5.0 s")),
        (AT_ONCE, 0.1, AT_ONCE),
        (AT_ONCE, 0.0, Decision(False, "0.0 s are left of watch.time_limit")),
        (NEVER, 0.0, NEVER),
        (NEVER, None, NEVER),
    ],
)
def test_nothing_is_tried_again_that_would_begin_after_the_jobs_time(
    decision: Decision, left: float | None, expected: Decision
) -> None:
    assert in_time(decision, left) == expected


CONNECTION_KINDS = {Kind.peer, Kind.rendezvous}
TRANSIENT_KINDS = {*CONNECTION_KINDS, Kind.signal, Kind.hang, Kind.preempted, Kind.agent}


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_in_its_groups_and_no_other(kind: Kind) -> None:
    groups = {group for group in ("deterministic", "connection", "transient") if matches(group, failure(kind))}
    expected = {"connection"} if kind in CONNECTION_KINDS else set()
    assert groups == expected | ({"transient"} if kind in TRANSIENT_KINDS else set())
    assert matches(kind.value, failure(kind))


@pytest.mark.parametrize("kind", list(Kind))
def test_only_what_a_worker_dies_of_itself_can_be_too_soon(kind: Kind) -> None:
    decision = decide(RetryConfig(max_restarts=1, min_uptime=61), [], failure(kind), NOW)
    own = kind in (Kind.exception, Kind.exit, Kind.signal, Kind.oom, Kind.start_up)
    assert ("never got started" in decision.reason) is own


@pytest.mark.parametrize(
    "name",
    [
        "ImportError",
        "SyntaxError",
        "TypeError",
        "NameError",
        "AttributeError",
        "NotImplementedError",
        "argparse.ArgumentError",
        "hydra.errors.HydraException",
        "omegaconf.errors.OmegaConfBaseException",
    ],
)
def test_mistakes_are_deterministic_whatever_the_exit_code(name: str) -> None:
    assert matches("deterministic", failure(Kind.exception, "my.Error", name, exitcode=75))
    assert not matches("connection", failure(Kind.exception, "my.Error", name))


@pytest.mark.parametrize("code", [2, 126, 127])
def test_codes_of_mistakes_are_deterministic_without_an_exception(code: int) -> None:
    assert matches("deterministic", failure(Kind.exit, exitcode=code))
    assert not matches("deterministic", failure(Kind.exit, exitcode=code - 1 if code == 2 else code + 2))
    assert not matches("deterministic", failure(Kind.exception, "ValueError", exitcode=code))


@pytest.mark.parametrize("word", [" oom ", "OutOfMemoryError ", " 1"])
def test_words_may_have_blanks_around_them(word: str) -> None:
    out_of_memory = failure(Kind.oom, "torch.OutOfMemoryError")
    assert matches(word, out_of_memory if word != " 1" else failure(Kind.exit, exitcode=1))


def test_a_code_means_no_failure_without_one_and_a_signal_none_without_a_name() -> None:
    assert not matches(0, failure(Kind.hang))
    assert not matches("", failure(Kind.hang))


def test_a_mistake_is_told_by_the_last_part_of_its_name() -> None:
    missing = Failure(Kind.exception, "", "host", NOW, names=("my.errors.Missing", "ImportError"))
    assert decide(RetryConfig(max_restarts=1), [], missing, NOW).reason.endswith(": Missing would happen again")


def test_a_timeout_is_a_connection_that_was_waited_for() -> None:
    late = failure(Kind.exception, "builtins.TimeoutError")
    assert matches("connection", late)
    assert matches("transient", late)
