"""Values as people write them: counts, and numbers that YAML reads otherwise than they were meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["LARGEST", "count", "sexagesimal", "value_at"]

LARGEST = 10**9
"""No count and no number of seconds is larger: beyond it the clocks of Python and torch overflow."""


def count(value: Any, least: int) -> int | None:
    """Read a whole number.

    Args:
        value: what was given, a number or its decimal digits.
        least: the smallest that is allowed.

    Returns:
        the number; None: it is none, or out of range.
    """
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}", str(value)):
        return None
    number = int(value)
    return number if least <= number <= LARGEST else None


def sexagesimal(value: Any) -> str | None:
    """Return how YAML 1.1 writes a number in base 60, which is what it takes an unquoted `1:2` for: the number 62.

    Args:
        value: as it was loaded.

    Returns:
        the text that gives this number, `1:2`; None: nothing that has the form `A:B`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 60 <= value < 3600:
        return None
    return f"{value // 60}:{value % 60}"


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as `logs.dir` from groups of settings."""
    value: Any = settings
    for name in key.split("."):
        value = value[name]
    return value
