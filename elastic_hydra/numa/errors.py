"""What can be wrong with a machine, a setting or a plan."""

from __future__ import annotations

from elastic_hydra.config.problems import ROOT, shown

KEY = f"{ROOT}.numa"


class NumaError(ValueError):
    """A binding cannot be planned as asked; the text names the key, what the machine has and what would work."""


class TopologyError(NumaError):
    """The machine does not tell its topology."""


class Refusal(NumaError):
    """The machine does not have what one setting asks for; asking for less may work.

    Args:
        key: The setting.
        value: Its value.
        problem: What the machine has instead.
        advice: What would work; empty where that is not known.
    """

    def __init__(self, key: str, value: object, problem: str, advice: str = "") -> None:
        super().__init__(str(setting_error(key, value, "; ".join(filter(None, (problem, advice))))))
        self.key, self.value, self.problem = key, value, problem

    def advised(self, advice: str) -> Refusal:
        """The same refusal with other advice."""
        return Refusal(self.key, self.value, self.problem, advice)


def setting_error(key: str, value: object, problem: str) -> NumaError:
    """The error for one setting: `hydra.launcher.numa.KEY=VALUE: PROBLEM`."""
    return NumaError(f"{KEY}.{key}={shown(value)}: {problem}")
