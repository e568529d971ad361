"""Sizes and counts as people write and read them: `16GB`, `512MiB`, `1.1 GB`, `3 workers`."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["bytes_in_words", "counted", "number_of_bytes"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def number_of_bytes(size: Any) -> int | None:
    """Read a size such as `16GB`, `512MiB` or a number of bytes; None: the value is no size."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]I?)?B?", str(size).strip().upper())
    return None if match is None else int(float(match[1]) * _UNITS[match[2] or ""])


def bytes_in_words(count: int) -> str:
    """Write a number of bytes for people: `1.1 GB`."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def counted(number: int, noun: str) -> str:
    """Write how many of something there are: `1 worker`, `3 workers`."""
    return f"{number} {noun}{'s' * (number != 1)}"
