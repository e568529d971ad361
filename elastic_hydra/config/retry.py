"""`hydra.launcher.retry`: what happens when a worker dies."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP035, UP045

import signal
from dataclasses import dataclass, field
from typing import Any, List, Optional

from elastic_hydra.config.errors import nearest
from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.words import WORDS, is_class_name, is_word

__all__ = ["BackoffConfig", "RetryConfig", "check_retry"]


@names_its_keys
@dataclass
class BackoffConfig:
    """How long to wait before a restart."""

    initial: float = 0.0
    """Seconds before the first restart; 0: at once."""
    factor: float = 2.0
    """Each further wait is this many times as long, 1 or more."""
    maximum: float = 300.0
    """Seconds that no wait exceeds."""
    jitter: float = 0.25
    """Part of the wait by which it is made longer or shorter at random, 0 to 1, so that jobs that died together do not
    come back together."""


@names_its_keys
@dataclass
class RetryConfig:
    """What happens when a worker dies: `hydra/launcher/retry=none|restart|transient|preemptible`."""

    max_restarts: int = 0
    """How often the worker group of a job is started again: one budget for the job, over all nodes."""
    window: Optional[float] = None
    """Only restarts within the last `window` seconds count against `max_restarts`; null: all."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    only_on: List[Any] = field(default_factory=list)
    """Only these are followed by a restart: kinds (`oom`, `signal`, …), exception classes or bases of them (`OSError`,
    `torch.OutOfMemoryError`), exit codes (`75`), signals (`SIGBUS`), groups (`transient`, `connection`,
    `deterministic`). Empty: all."""
    never_on: List[Any] = field(default_factory=lambda: ["deterministic"])
    """These are never followed by a restart; the same words. It has the last word over `only_on`."""
    min_uptime: float = 0.0
    """Seconds that a worker must have lived to be restarted when it dies by itself: one that dies sooner never got
    started. 0: any time is enough."""
    max_attempts: int = 1
    """How often a job is tried at most, 1 or more: it is tried again when its agent itself was lost."""


def check_retry(retry: RetryConfig, problems: Problems) -> None:
    """Check these keys.

    Args:
        retry: `hydra.launcher.retry`.
        problems: takes what is wrong.
    """
    for key, least in (("max_restarts", 0), ("max_attempts", 1)):
        problems.at_least(least, f"retry.{key}", getattr(retry, key))
    if retry.window is not None and retry.window <= 0:
        problems.add("retry.window", retry.window, "must be more than 0 (seconds), or null")
    problems.at_least(0, "retry.min_uptime", retry.min_uptime, " (seconds)")
    _check_backoff(retry.backoff, problems)
    _check_words("retry.only_on", retry.only_on, problems)
    _check_words("retry.never_on", retry.never_on, problems)


def _check_backoff(backoff: BackoffConfig, problems: Problems) -> None:
    for key, least in (("initial", 0), ("factor", 1), ("maximum", 0)):
        problems.at_least(least, f"retry.backoff.{key}", getattr(backoff, key))
    problems.require(0 <= backoff.jitter <= 1, "retry.backoff.jitter", backoff.jitter, "must be from 0 to 1")
    if backoff.maximum < backoff.initial:
        problem = f"must not be less than initial={backoff.initial:g}"
        problems.add("retry.backoff.maximum", backoff.maximum, problem)


def _check_words(key: str, words: List[Any], problems: Problems) -> None:
    for word in words:
        if not is_word(word):
            known = [*WORDS, *(number.name for number in signal.Signals)]
            requirement = f"must be exception classes, exit codes, signals (SIGBUS), or of {', '.join(WORDS)}"
            problems.add(key, word, requirement + nearest(word, known))
        elif is_class_name(word):
            # The import is here because it takes time, and most jobs have no class names to check.
            from elastic_hydra.config.exceptions import doubt_about

            if doubt := doubt_about(str(word).strip()):
                problems.add(key, word, doubt)
