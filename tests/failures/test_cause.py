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
from elastic_hydra.failures.cause import (
    in_words,
    is_between_ranks,
    is_connection,
    is_out_of_memory,
    one_line,
    root,
)
from elastic_hydra.failures.classify import Failure, classify
from elastic_hydra.failures.evidence import Death, Evidence, ExceptionFacts
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
    if sys.version_info >= (3, 11):
        return BaseExceptionGroup("two tasks failed", errors)  # noqa: F821
    pytest.skip("groups are new in Python 3.11")


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


def facts(name: str, message: str = "", *bases: str, **related: Any) -> ExceptionFacts:
    return ExceptionFacts(name, bases, message, **related)


GONE = facts("RuntimeError", "Connection reset by peer")
INNER = facts("ValueError", "bad")
NO_MEMORY = facts("RuntimeError", "std::bad_alloc")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (INNER, INNER),
        (facts("my.Error", "", cause=INNER), None),  # the program's own choice of words
        (facts("hydra.errors.InstantiationException", "", "hydra.errors.HydraException", cause=INNER), INNER),
        (facts("hydra.errors.HydraException", "", context=INNER), None),
        (facts("omegaconf.errors.InterpolationResolutionError", "", cause=INNER, context=GONE), INNER),
        (facts("omegaconf.errors.InterpolationResolutionError", "", context=INNER), INNER),
        (facts("omegaconf.errors.InterpolationResolutionError"), None),
        (
            facts(
                "omegaconf.errors.InterpolationKeyError",
                "",
                "omegaconf.errors.InterpolationResolutionError",
                cause=INNER,
            ),
            None,
        ),
        (facts("ExceptionGroup", "", members=(GONE, NO_MEMORY, INNER)), INNER),
        (facts("ExceptionGroup", "", members=(GONE, NO_MEMORY)), GONE),
        (facts("ExceptionGroup", "", members=(facts("ExceptionGroup", "", members=(INNER,)),)), INNER),
    ],
)
def test_the_root_is_behind_wrappers_and_in_groups(error: ExceptionFacts, expected: ExceptionFacts | None) -> None:
    assert root(error) == (error if expected is None else expected)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (facts("builtins.ValueError", "bad"), "ValueError: bad"),
        (facts("builtins.ValueError"), "ValueError"),
        (facts("my.ValueError", " bad \n worse"), "my.ValueError: bad; worse"),
        (
            facts("hydra.errors.HydraException", "in call to app.Net:\nwith arguments", cause=INNER),
            "ValueError: bad (hydra.errors.HydraException: in call to app.Net)",
        ),
        (facts("hydra.errors.HydraException", "", cause=INNER), "ValueError: bad (hydra.errors.HydraException: )"),
        (
            facts("builtins.ExceptionGroup", "two failed", members=(GONE, INNER)),
            "ValueError: bad (one of 2 in ExceptionGroup: two failed)",
        ),
    ],
)
def test_what_says_why_comes_first_and_then_what_was_around_it(error: ExceptionFacts, words: str) -> None:
    assert in_words(error) == words


@pytest.mark.parametrize(
    "name", ["MemoryError", "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "OutOfMemoryError"]
)
def test_classes_that_mean_no_memory(name: str) -> None:
    assert is_out_of_memory(facts("my.Error", "", name))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate",
        "Can't allocate memory",
        "cannot allocate memory",
        "Failed to allocate 4 bytes",
        "std::bad_alloc",
        "not enough memory: you tried",
    ],
)
def test_words_that_mean_no_memory_where_torch_says_them(text: str) -> None:
    assert is_out_of_memory(facts("RuntimeError", f"[enforce fail] {text}"))
    assert not is_out_of_memory(facts("ValueError", text))
    assert not is_connection(facts("RuntimeError", text))


@pytest.mark.parametrize(
    "name",
    [
        "ConnectionError",
        "torch.distributed.DistBackendError",
        "torch.distributed.DistNetworkError",
        "torch.distributed.DistStoreError",
        "DistBackendError",
        "DistNetworkError",
        "DistStoreError",
    ],
)
def test_classes_that_mean_a_lost_connection(name: str) -> None:
    error = facts("my.Error", "", name)
    assert is_connection(error)
    assert is_between_ranks(error) is (name != "ConnectionError")


@pytest.mark.parametrize(
    "text",
    [
        "Connection closed by peer",
        "connection was reset",
        "Connection refused",
        "connection aborted",
        "connection timed out",
        "connection lost",
        "Broken pipe",
        "Socket closed",
        "socket timeout",
        "Gloo connectFullMesh failed",
        "ncclRemoteError: a remote process",
        "ncclSystemError",
        "ncclUnhandledCudaError",
        "NCCL error in",
        "NCCL communicator was aborted",
        "remote process exited",
        "network error",
        "Network is unreachable",
        "No route to host",
        "[gloo/pair.cc] read timeout",
        "Timed out waiting 1800000ms for recv operation",
        "timeout waiting for the store",
        "Watchdog caught collective operation timeout",
    ],
)
def test_words_that_mean_a_lost_connection_where_torch_says_them(text: str) -> None:
    error = facts("RuntimeError", f"before: {text} after")
    assert is_connection(error)
    assert is_between_ranks(error)
    assert not is_connection(facts("ValueError", text))


@pytest.mark.parametrize(
    ("text", "longest", "line"),
    [
        ("a:\nb;\nc,\nd.\ne\nf", 300, "a: b; c, d. e; f"),
        ("X\nY", 300, "X; Y"),
        ("a  b\t c", 300, "a b c"),
        ("x" * 30, 30, "x" * 30),
        ("a" * 20 + "b" * 11, 30, "a" * 17 + " … " + "b" * 10),
        ("a" * 16 + " " + "b" * 30, 30, "a" * 16 + " … " + "b" * 10),
        ("a" * 37 + " " + "b" * 9, 30, "a" * 17 + " … " + "b" * 9),
        ("a" * 120 + "b" * 120, 30, "a" * 17 + " … " + "b" * 10),
        ("a" * 120 + "c" + "b" * 120, 30, "a" * 17 + " … " + "b" * 10),
    ],
)
def test_a_long_text_loses_its_middle(text: str, longest: int, line: str) -> None:
    assert one_line(text, longest) == line


def test_of_a_huge_text_only_both_ends_are_read() -> None:
    text = "\n".join("ab" for _ in range(50)) + "x" * 200 + "\n" + "\n".join("yz" for _ in range(40))
    assert one_line("a\n" * 119 + "b\n" + "\n" * 1000 + "c", 30) == one_line("a\n" * 60 + "\n" * 118 + "c", 30)
    assert one_line(text, 30).startswith("ab; ab; ab")
    assert one_line(text, 30).endswith("yz; yz")
