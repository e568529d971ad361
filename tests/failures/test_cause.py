"""Which exception of several says why, and in which words: no processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from elastic_hydra.config.retry import RetryConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.elastic.worker_failure import facts_of
from elastic_hydra.failures.cause import one_line
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Death, Evidence
from elastic_hydra.failures.policy import decide


def fail(error: BaseException) -> None:
    raise error


def instantiated(error: BaseException, times: int = 1) -> BaseException:
    """Return what Hydra 1.3 raises when `error` is raised inside of `instantiate`."""
    for _ in range(times):
        outer = InstantiationException(f"Error in call to target 'app.Net':\n{error!r}")
        outer.__cause__, error = error, outer
    return error


def resolved(error: BaseException) -> BaseException:
    """Return what OmegaConf raises when a resolver raises `error`."""
    OmegaConf.clear_resolver("fails_with")
    OmegaConf.register_new_resolver("fails_with", lambda: fail(error))
    with pytest.raises(Exception) as caught:
        _ = OmegaConf.create({"a": "${fails_with:}"}).a
    OmegaConf.clear_resolver("fails_with")
    return caught.value


def handled(error: BaseException) -> BaseException:
    """Return a configuration's error that is raised while another one is handled."""
    config = OmegaConf.create({"a": 1})
    OmegaConf.set_struct(config, True)
    try:
        raise error
    except Exception:
        try:
            _ = config.no_such_key
        except Exception as outer:
            outer.__context__ = error
            return outer
    raise AssertionError


def group(*errors: BaseException) -> BaseException:
    if sys.version_info < (3, 11):
        pytest.skip("groups are new in Python 3.11")
    return ExceptionGroup("two tasks failed", errors)  # noqa: F821


def failure_of(error: BaseException) -> Failure:
    return classify(Evidence("node-a", 9.0, [Death(0, 8.0, 1, 5.0, 100, facts_of(error))]))


class OutOfMemoryError(RuntimeError):
    """As torch's: only its name counts."""


@pytest.mark.parametrize(
    ("make", "kind", "again", "words"),
    [
        (
            lambda: instantiated(ConnectionResetError("gone")),
            Kind.exception,
            True,
            "ConnectionResetError: gone (hydra.errors.InstantiationException: Error in call to target 'app.Net')",
        ),
        (lambda: instantiated(ConnectionResetError("gone"), 3), Kind.exception, True, "ConnectionResetError: gone ("),
        (lambda: instantiated(OutOfMemoryError("CUDA out of memory")), Kind.oom, True, "ran out of memory: "),
        (lambda: instantiated(TimeoutError("late")), Kind.exception, True, "TimeoutError: late"),
        (lambda: instantiated(ValueError("no such model")), Kind.exception, False, "ValueError: no such model"),
        (lambda: instantiated(TypeError("no argument x")), Kind.exception, False, "TypeError: no argument x"),
        (lambda: resolved(ConnectionError("gone")), Kind.exception, True, "raised ConnectionError: gone (omegaconf."),
        (lambda: instantiated(resolved(MemoryError("big"))), Kind.oom, True, "ran out of memory: MemoryError: big"),
        (lambda: handled(ConnectionError("gone")), Kind.exception, False, "ConfigAttributeError"),
        (lambda: group(ConnectionError("gone"), TimeoutError("late")), Kind.exception, True, "(one of 2 in Exception"),
        (lambda: group(ConnectionError("gone"), ValueError("bad")), Kind.exception, False, "raised ValueError: bad"),
        (lambda: group(instantiated(group(ConnectionError("gone")))), Kind.exception, True, "ConnectionError: gone"),
        (lambda: instantiated(group(MemoryError("big"))), Kind.oom, True, "MemoryError: big"),
    ],
)
def test_a_failure_is_judged_and_told_by_what_is_behind_frameworks_and_groups(
    make: Callable[[], BaseException], kind: Kind, again: bool, words: str
) -> None:
    failure = failure_of(make())
    assert failure.kind is kind
    assert words in failure.reason
    rules: dict[str, Any] = {"max_restarts": 1, "only_on": ["transient", "oom"]}
    assert decide(RetryConfig(**rules), [], failure, 10.0).again is again


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one", "one"),
        (
            "Error loading 'x':\nNo module named 'x'\nIs it installed?",
            "Error loading 'x': No module named 'x'; Is it in",
        ),
        ("\n\n  first  \n\tsecond\n", "first; second"),
        ("a" * 1000 + "\nthe reason", "aaa … aaa; the reason"),
        ("x\n" * 10_000_000 + "the reason", "the reason"),
        ("", ""),
    ],
)
def test_a_text_of_many_lines_is_told_in_one_with_its_end(text: str, line: str) -> None:
    told = one_line(text)
    assert "\n" not in told
    assert len(told) <= 300
    for part in line.split(" … "):
        assert part in told
