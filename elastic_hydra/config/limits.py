"""Checks of what happens when a worker dies or hangs: `hydra.launcher.retry` and `hydra.launcher.watch`."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from elastic_hydra.config.errors import nearest
from elastic_hydra.config.exceptions import doubt_about
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.retry import (
    PROGRESS,
    WORDS,
    Action,
    BackoffConfig,
    RetryConfig,
    WatchConfig,
    is_class_name,
    is_word,
    number_of_bytes,
)

__all__ = ["retry_of", "watch_of"]


def retry_of(settings: Mapping[str, Any], problems: Problems) -> RetryConfig:
    backoff = settings["backoff"]
    for key, least in (("max_restarts", 0), ("max_attempts", 1)):
        problems.require(settings[key] >= least, f"retry.{key}", settings[key], f"must be {least} or more")
    for key in ("window", "min_uptime"):
        value = settings[key]
        ok = value is None or value > 0 or (key == "min_uptime" and value == 0)
        allowed = "must be more than 0 (seconds), or null" if key == "window" else "must be 0 or more (seconds)"
        problems.require(ok, f"retry.{key}", value, allowed)
    for key, least in (("initial", 0), ("factor", 1), ("maximum", 0)):
        problems.require(backoff[key] >= least, f"retry.backoff.{key}", backoff[key], f"must be {least} or more")
    problems.require(0 <= backoff["jitter"] <= 1, "retry.backoff.jitter", backoff["jitter"], "must be from 0 to 1")
    if backoff["maximum"] < backoff["initial"]:
        problem = f"must not be less than initial={backoff['initial']:g}"
        problems.add("retry.backoff.maximum", backoff["maximum"], problem)
    for key in ("only_on", "never_on"):
        for word in settings[key]:
            if not is_word(word):
                known = [*WORDS, *(number.name for number in signal.Signals)]
                what = f"must be exception classes, exit codes, signals (SIGBUS), or of {', '.join(WORDS)}"
                problems.add(f"retry.{key}", word, what + nearest(word, known))
            elif is_class_name(word) and (doubt := doubt_about(str(word).strip())):
                problems.add(f"retry.{key}", word, doubt)
    return RetryConfig(**{**settings, "backoff": BackoffConfig(**backoff)})


def watch_of(settings: Mapping[str, Any], retry: RetryConfig, problems: Problems) -> WatchConfig:
    for key in ("time_limit", "start_up_limit", "progress_limit", "interval"):
        value = settings[key]
        problems.require(value is None or value > 0, f"watch.{key}", value, "must be more than 0 (seconds), or null")
    memory = None if settings["memory_limit"] is None else number_of_bytes(settings["memory_limit"])
    if settings["memory_limit"] is not None and not memory:
        what = "must be a size such as 16GB, 512MiB, or a number of bytes, more than 0"
        problems.add("watch.memory_limit", settings["memory_limit"], what)
    for word in settings["progress"]:
        if word not in PROGRESS:
            problems.add("watch.progress", word, f"must be of {', '.join(PROGRESS)}{nearest(word, PROGRESS)}")
    if not settings["progress"]:
        problems.add("watch.progress", "[]", f"must be at least one of {', '.join(PROGRESS)}")
    watch = WatchConfig(**{**settings, "memory_limit": memory})
    if watch.is_on() and watch.action is Action.restart and retry.max_restarts == 0:
        why = f"nothing is restarted with {ROOT}.retry.max_restarts=0: pick a retry profile"
        problems.add("watch.action", "restart", why)
    return watch
