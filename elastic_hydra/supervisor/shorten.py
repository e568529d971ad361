"""Texts of any length, cut to what a person can read and a process can hand on."""

from __future__ import annotations

from typing import Any

__all__ = ["LONGEST", "shortened"]

LONGEST = 20_000
"""Characters of a text, and bytes of a message, that are left as they are."""


def shortened(text: Any, longest: int = LONGEST) -> Any:
    """Cut the middle out of a text that is too long.

    Args:
        text: a `str` or `bytes`; anything else comes back as it is.
        longest: how much may be left of it.
    """
    if not isinstance(text, (str, bytes)) or len(text) <= longest:
        return text
    begin, end = text[: longest * 3 // 4], text[-longest // 4 :]
    note = f" … ({len(text) - longest} more here; the whole is in the stderr.log of the worker that said it) … "
    if isinstance(begin, bytes) and isinstance(end, bytes):
        return begin + note.encode() + end
    return f"{begin!s}{note}{end!s}"
