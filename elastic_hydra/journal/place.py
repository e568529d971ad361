"""Where journals are, and where things of a sweep are now: its directory may have been moved as a whole."""

from __future__ import annotations

import os

__all__ = ["FILE_NAME", "is_journal", "place_now"]

FILE_NAME = "journal.jsonl"
"""Of the journal in a sweep's directory."""


def is_journal(name: str) -> bool:
    """Whether a file is called like a journal: where launchers on several nodes share a directory, each has one."""
    return name.startswith("journal.") and name.endswith(".jsonl")


def place_now(recorded: str, recorded_sweep: str, sweep: str) -> str:
    """Return where a recorded directory is now.

    Args:
        recorded: the directory, as the journal has it.
        recorded_sweep: the sweep's directory when that was written.
        sweep: the sweep's directory now.
    """
    # A job may write into the sweep's very directory, as that of a single run does.
    inside = f"{recorded}{os.sep}".startswith(f"{recorded_sweep}{os.sep}")
    return sweep + recorded[len(recorded_sweep) :] if inside else recorded
