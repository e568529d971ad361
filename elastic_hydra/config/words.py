"""What failures are called in `retry.only_on` and `retry.never_on`: kinds, groups, exceptions, exit codes, signals."""

from __future__ import annotations

import re
import signal
from enum import Enum
from typing import Any

__all__ = ["GROUPS", "WORDS", "Kind", "is_class_name", "is_word"]


class Kind(str, Enum):
    """What kind of end a worker group came to."""

    exception = "exception"
    """A worker raised."""
    exit = "exit"
    """A worker ended by itself, with an exit code or without a result."""
    signal = "signal"
    """A signal killed a worker, and neither the launcher nor the kernel's memory killer has sent it."""
    oom = "oom"
    """No memory: the kernel's out-of-memory killer, an allocation that failed (also on the GPU), or
    `watch.memory_limit`."""
    hang = "hang"
    """No progress within `watch.progress_limit`, or a process stuck in the kernel."""
    timeout = "timeout"
    """The job's `watch.time_limit` is over."""
    start_up = "start_up"
    """A worker could not be started, or showed no sign of life within `watch.start_up_limit`."""
    rendezvous = "rendezvous"
    """The nodes did not find together."""
    peer = "peer"
    """Workers lost the connection to a worker whose end nobody saw: its node is gone."""
    preempted = "preempted"
    """A node was told to stop by a signal to its agent."""
    agent = "agent"
    """The job's agent itself was lost."""


GROUPS = ("deterministic", "connection", "transient")
"""Words for groups of failures; `elastic_hydra.failures.policy` says which failures are in each group."""

WORDS = (*(kind.value for kind in Kind), *GROUPS)
"""All words that are not class names, exit codes or signals."""


def is_word(word: Any) -> bool:
    """Whether a word can name a failure. Any class name can, since users have exception classes of their own.

    Args:
        word: an entry of `retry.only_on` or `retry.never_on`.
    """
    if isinstance(word, bool) or not isinstance(word, (str, int)):
        return False
    text = str(word).strip()
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        return -64 <= int(text) <= 255
    if text.startswith("SIG"):
        return text in signal.Signals.__members__
    return text in WORDS or is_class_name(text)


def is_class_name(word: Any) -> bool:
    """Whether a word has the form of a class's name, and not that of a kind, a group, a signal or an exit code."""
    text = str(word).strip()
    if text.startswith("SIG") or not all(part.isidentifier() for part in text.split(".")):
        return False
    return text.rpartition(".")[2][0].isupper()
