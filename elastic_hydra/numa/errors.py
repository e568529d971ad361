"""What can be wrong with a machine, a setting or a plan."""

from __future__ import annotations

from enum import Enum

KEY = "hydra.launcher.numa"


class NumaError(ValueError):
    """A binding cannot be planned as asked; the text names the key, what is there and what would work."""


class TopologyError(NumaError):
    """The machine does not tell its topology."""


def setting_error(key: str, value: object, problem: str) -> NumaError:
    """The error for one setting: `hydra.launcher.numa.KEY=VALUE: PROBLEM`."""
    if isinstance(value, Enum):
        value = value.value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return NumaError(f"{KEY}.{key}={text}: {problem}")
