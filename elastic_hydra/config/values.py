"""Values as people write them: whole numbers, and numbers for which YAML reads something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["LARGEST", "count", "sexagesimal", "value_at"]

LARGEST = 10**9
"""The largest number of anything, seconds for example, that is allowed: beyond it, clocks of Python and torch
overflow."""


def count(value: Any, least: int) -> int | None:
    """Read a whole number.

    Args:
        value: a number or its decimal digits.
        least: the smallest number that is allowed.

    Returns:
        the number; None: the value is no whole number, or out of range.
    """
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,10}", str(value)):
        return None
    number = int(value)
    return number if least <= number <= LARGEST else None


def sexagesimal(value: Any) -> str | None:
    """Return the text `A:B` that YAML 1.1 has perhaps read as a number in base 60: it takes an unquoted `1:2` for 62.

    Args:
        value: the value that YAML has read.

    Returns:
        the text, such as `1:2` for 62; None: no text of the form `A:B` gives this value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 60 <= value < 3600:
        return None
    return f"{value // 60}:{value % 60}"


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as `logs.dir` from settings in groups."""
    value: Any = settings
    for name in key.split("."):
        value = value[name]
    return value
