"""Durations, times, paths and texts as people read them."""

from __future__ import annotations

import math
import os
import re
import time

__all__ = ["cut", "duration", "moment", "printable", "shown_path"]

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
"""What moves a terminal's cursor or colours its text."""

_LATEST = 253_402_300_800
"""The end of the year 9999, in seconds since the epoch; later moments are mistakes."""


def duration(seconds: float) -> str:
    """Write a duration for people: `7.4 s`, `95 s`, `12 min`, `5 h`, `3 days 4 h`."""
    if not math.isfinite(seconds):  # somebody has edited the journal
        return "?"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def moment(seconds: float, now: float) -> str:
    """Write a moment in local time: only the time of the day if it is today's, else with the date.

    Args:
        seconds: the moment, in seconds since the epoch; 0: it is not known.
        now: the present, likewise.
    """
    if not 0 < seconds < _LATEST:
        return "?"
    then, today = time.localtime(seconds), time.localtime(now)
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def cut(text: str, width: int) -> str:
    """Put a text into one line of at most `width` characters; a longer one ends in `…`."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def printable(text: str) -> str:
    """Leave out of a text what would move a terminal's cursor or colour what follows; a blank stands for a tab."""
    plain = _ESCAPES.sub("", text)
    if plain.isprintable():
        return plain.strip()
    return "".join(character for character in plain.replace("\t", " ") if character.isprintable()).strip()


def shown_path(path: str | os.PathLike[str]) -> str:
    """Shorten a path to what is needed from here."""
    whole, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(whole, here) if whole == here or whole.startswith(here + os.sep) else os.fspath(path)
