"""Whether a job whose workers have failed is started again, when, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elastic_hydra.config.retry import BackoffConfig, RetryConfig
from elastic_hydra.config.words import GROUPS, Kind
from elastic_hydra.failures.classify import Failure

__all__ = ["Decision", "backoff", "decide", "decide_attempt", "in_time", "matches"]

_MISTAKES = (
    "ImportError",
    "SyntaxError",
    "TypeError",
    "NameError",
    "AttributeError",
    "NotImplementedError",
    "argparse.ArgumentError",
    "hydra.errors.HydraException",
    "omegaconf.errors.OmegaConfBaseException",
)
_MISTAKE_CODES = (2, 126, 127)
"""Wrong usage (argparse, Python without its script), a program that cannot be executed, one that is not there."""

_CONNECTION_KINDS = (Kind.peer, Kind.rendezvous)
_TRANSIENT_KINDS = (*_CONNECTION_KINDS, Kind.signal, Kind.hang, Kind.preempted, Kind.agent)
_OWN_DEATHS = (Kind.exception, Kind.exit, Kind.signal, Kind.oom, Kind.start_up)
"""Kinds of failures that a worker causes itself. Only of these can a short life mean that it never got started."""


@dataclass(frozen=True)
class Decision:
    """Whether the workers of a job, or the job, are started again."""

    again: bool
    reason: str
    """Why it was so decided, in words, for people."""
    after: float = 0.0
    """Seconds to wait before the restart."""
    counts: bool = True
    """Whether the restart uses up one of `max_restarts`."""


def decide(policy: RetryConfig, history: Sequence[float], failure: Failure, now: float, draw: float = 0.5) -> Decision:
    """Decide whether the worker group is started again.

    Args:
        policy: the rules.
        history: when the earlier restarts that count were decided, in seconds on any clock.
        failure: what has happened.
        now: the time, on the same clock.
        draw: a random number from 0 to 1, for the jitter.

    Returns:
        the decision, with the seconds to wait before the restart.
    """
    refusal = _refusal(policy, failure)
    if refusal is not None:
        return Decision(False, refusal)
    recent_restarts = [moment for moment in history if policy.window is None or moment > now - policy.window]
    if failure.kind is Kind.preempted and policy.max_restarts > 0:
        return Decision(
            True, "a preempted node says nothing about the job: this restart does not count", 0.0, counts=False
        )
    in_window = f" within {policy.window:g} s" if policy.window is not None else ""
    if len(recent_restarts) >= policy.max_restarts:
        if policy.max_restarts == 0:
            return Decision(False, "retry.max_restarts=0: nothing is restarted")
        return Decision(False, f"all {policy.max_restarts} restarts{in_window} are used up")
    after = backoff(policy.backoff, len(recent_restarts), draw)
    return Decision(True, f"restart {len(recent_restarts) + 1} of {policy.max_restarts}{in_window}", after)


def decide_attempt(policy: RetryConfig, attempts: int, failure: Failure, draw: float = 0.5) -> Decision:
    """Decide whether a job whose agent was lost is tried again from the start.

    Args:
        policy: the rules.
        attempts: how many attempts there have been, with the lost one.
        failure: what has happened to the agent.
        draw: a random number from 0 to 1, for the jitter.
    """
    refusal = _refusal(policy, failure)
    if refusal is not None:
        return Decision(False, refusal)
    if attempts >= policy.max_attempts:
        used = f"retry.max_attempts={policy.max_attempts}"
        return Decision(
            False, f"{used}: no further attempt" if policy.max_attempts == 1 else f"{used}: all are used up"
        )
    return Decision(
        True, f"attempt {attempts + 1} of {policy.max_attempts}", backoff(policy.backoff, attempts - 1, draw)
    )


def in_time(decision: Decision, left: float | None) -> Decision:
    """Refuse a restart that would begin when the job's time is over.

    Args:
        decision: what was decided without regard to the time.
        left: seconds that are left of `watch.time_limit`; None: there is no limit.

    Returns:
        the decision as it was, or the refusal.
    """
    if not decision.again or left is None or left > decision.after:
        return decision
    shortage = f"{max(0.0, left):.1f} s are left of watch.time_limit"
    return Decision(False, shortage + (f", and the wait would be {decision.after:.1f} s" if decision.after else ""))


def backoff(settings: BackoffConfig, earlier: int, draw: float) -> float:
    """Compute the wait before a restart: it grows exponentially, and jitter makes it longer or shorter.

    Args:
        settings: `hydra.launcher.retry.backoff`.
        earlier: how many restarts there have been.
        draw: a random number from 0 to 1.

    Returns:
        seconds, at most `settings.maximum`.
    """
    try:
        plain = min(settings.maximum, settings.initial * settings.factor**earlier)
    except OverflowError:
        plain = settings.maximum
    return min(settings.maximum, plain * (1.0 + settings.jitter * (2.0 * draw - 1.0)))


def matches(word: Any, failure: Failure) -> bool:
    """Whether a word in `only_on` or `never_on` stands for a failure.

    Args:
        word: a kind, a group, the name of an exception class or of one of its bases, an exit code or a signal.
        failure: the failure.
    """
    text = str(word).strip()
    if text in GROUPS:
        return _in_group(text, failure)
    if text == failure.kind.value or text in failure.names:
        return True
    if text.lstrip("-").isdigit():
        return failure.exitcode is not None and failure.exitcode == int(text) and not failure.names
    return bool(failure.signal) and failure.kind is not Kind.preempted and text == failure.signal


def _in_group(group: str, failure: Failure) -> bool:
    """Whether a failure is in one of the groups: `deterministic`, `connection`, `transient`."""
    if group == "deterministic":
        if failure.names:
            return any(name in failure.names for name in _MISTAKES)
        return failure.exitcode in _MISTAKE_CODES
    connection = failure.connection or failure.kind in _CONNECTION_KINDS or "TimeoutError" in failure.names
    if group == "connection":
        return connection
    return connection or failure.kind in _TRANSIENT_KINDS


def _refusal(policy: RetryConfig, failure: Failure) -> str | None:
    """Say why nothing is restarted after a failure, however many restarts are left; None: a restart may follow."""
    if failure.kind is Kind.timeout:
        return "the job's time is over"
    for word in policy.never_on:
        if matches(word, failure):
            why = f": {_mistake(failure)} would happen again" if str(word) == "deterministic" else ""
            return f"retry.never_on has {word}{why}"
    if policy.only_on and not any(matches(word, failure) for word in policy.only_on):
        return f"retry.only_on has only {', '.join(map(str, policy.only_on))}"
    if failure.kind in _OWN_DEATHS and not failure.connection and failure.uptime < policy.min_uptime:
        lived = f"it lived {failure.uptime:.1f} s, less than retry.min_uptime={policy.min_uptime:g}"
        return f"{lived}: it never got started"
    return None


def _mistake(failure: Failure) -> str:
    return failure.type_name.rpartition(".")[2] if failure.names else f"exit code {failure.exitcode}"
