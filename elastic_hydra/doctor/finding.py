"""A finding: what was found about a part of this host, how bad it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Finding", "Severity", "problem", "warning", "well"]


class Severity(IntEnum):
    """How bad a finding is."""

    ok = 0
    """Nothing is to be done."""
    warning = 1
    """Jobs run, but slower than they could, or only some of them."""
    problem = 2
    """Something would fail."""


@dataclass(frozen=True)
class Finding:
    """What was found about a part of this host."""

    part: str
    """The part, in a word or two."""
    text: str
    """What was found, in one line."""
    severity: Severity = Severity.ok
    advice: str = ""
    """What to do; empty if nothing is to be done."""


def well(part: str, text: str) -> Finding:
    """Return a finding about which nothing is to be done."""
    return Finding(part, text)


def warning(part: str, text: str, advice: str) -> Finding:
    """Return a finding that makes jobs slower than they could be, or keeps some of them from running."""
    return Finding(part, text, Severity.warning, advice)


def problem(part: str, text: str, advice: str) -> Finding:
    """Return a finding that makes something fail."""
    return Finding(part, text, Severity.problem, advice)
