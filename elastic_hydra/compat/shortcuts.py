"""Which shortcuts through Hydra are taken: all of them, unless an environment variable says otherwise.

A shortcut replaces methods or names of Hydra's, and does the same with less reading and copying. Without the shortcut,
Hydra's own code runs, more slowly.
"""

from __future__ import annotations

import os

__all__ = ["SHORTCUTS", "VARIABLE", "check_variable", "is_taken"]

VARIABLE = "ELASTIC_HYDRA_SHORTCUTS"
"""The variable. 0: no shortcut is taken; 1 or not set: all are taken; `-NAME,-NAME`: all are taken but these."""

SHORTCUTS = {
    "composition": "Files are read, and merged, once for all jobs of a sweep, and a job is composed once, not twice.",
    "hydra_config": "`HydraConfig` gets a job's configuration without copying it.",
    "run_job": "`run_job` copies a job's configuration once, not five times.",
}
"""What each shortcut does, by name."""


def is_taken(name: str) -> bool:
    """Whether a shortcut is taken.

    Args:
        name: one of `SHORTCUTS`.
    """
    parts = _parts_of_variable()
    return parts != ["0"] and f"-{name}" not in parts


def check_variable() -> None:
    """Refuse a value of the variable that means nothing.

    Raises:
        ValueError: it is neither 0, nor 1, nor a list of shortcuts that are not to be taken.
    """
    parts = _parts_of_variable()
    left_out = [f"-{name}" for name in SHORTCUTS]
    if parts not in (["0"], ["1"]) and not set(parts) <= set(left_out):
        allowed = f"0 (none is taken), 1 (all are), or those that are not to be taken, as in {','.join(left_out)}"
        raise ValueError(f"{VARIABLE}={os.environ[VARIABLE]}: must be {allowed}")


def _parts_of_variable() -> list[str]:
    return [part.strip() for part in (os.environ.get(VARIABLE) or "1").split(",")]
