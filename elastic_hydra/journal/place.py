"""Where things of a sweep are now: its directory may have been moved as a whole."""

from __future__ import annotations

import os

__all__ = ["place_now"]


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
