"""What a sweep has varied: the overrides of its jobs as names and values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

__all__ = ["Plain", "parameters", "swept", "typed"]

Plain: TypeAlias = bool | int | float | str | None
"""A value of a parameter."""

_INT = re.compile(r"[+-]?\d+(_\d+)*")
_FLOAT = re.compile(r"[+-]?(\d+(_\d+)*(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_WORDS: dict[str, Plain] = {"true": True, "false": False, "null": None}


def parameters(overrides: Iterable[str]) -> dict[str, str]:
    """Return what a job's overrides set: names without `+`, with their values as texts; `~name` stays as it is.

    Args:
        overrides: of one job, as `lr=0.1` or `+model=big`.
    """
    split = (override.partition("=") for override in overrides)
    return {name.lstrip("+"): value for name, _, value in split}


def swept(jobs: Sequence[dict[str, str]]) -> list[str]:
    """Return the names of the parameters that are not the same in all jobs, in the order in which they appear.

    Args:
        jobs: the parameters of each job. A single job has none that differ, so all of its own are returned.
    """
    names = dict.fromkeys(name for job in jobs for name in job)
    if len(jobs) == 1:
        return list(names)
    return [name for name in names if len({job.get(name) for job in jobs}) > 1]


def typed(text: str) -> Plain:
    """Return the value that a text stands for, by the rules of Hydra's overrides.

    Lists, mappings, and numbers that are not finite stay texts.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
