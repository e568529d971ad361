"""Durations as people write them: `90min`, `1.5h`, `2 days`, or a number of seconds."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["number_of_seconds"]

_UNITS = {
    "": 1,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}


def number_of_seconds(duration: Any) -> float | None:
    """Read a duration such as `90min`, `1.5h` or a number of seconds; None: the value is none, or it is 0."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([a-z]*)", str(duration).strip().lower())
    if match is None or match[2] not in _UNITS:
        return None
    return float(match[1]) * _UNITS[match[2]] or None
