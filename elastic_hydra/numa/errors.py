"""What can be wrong with a machine, a setting or a plan."""

from __future__ import annotations

from enum import Enum

KEY = "hydra.launcher.numa"


class NumaError(ValueError):
    """A binding cannot be planned as asked; the text names the key, what is there and what would work."""


class TopologyError(NumaError):
    """The machine does not tell its topology."""


class Refusal(NumaError):
    """The machine does not have what one setting asks for; something less may work.

    Args:
        key: The setting.
        value: What it asks for.
        problem: What there is.
        advice: What would work; empty where that is not known.
    """

    def __init__(self, key: str, value: object, problem: str, advice: str = "") -> None:
        super().__init__(str(setting_error(key, value, "; ".join(filter(None, (problem, advice))))))
        self.key, self.value, self.problem = key, value, problem

    def advised(self, advice: str) -> Refusal:
        """The same with other advice."""
        return Refusal(self.key, self.value, self.problem, advice)


def setting_error(key: str, value: object, problem: str) -> NumaError:
    """The error for one setting: `hydra.launcher.numa.KEY=VALUE: PROBLEM`."""
    if isinstance(value, Enum):
        value = value.value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return NumaError(f"{KEY}.{key}={text}: {problem}")
