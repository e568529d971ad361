"""What is wrong with a configuration, collected so that it is said at once."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from elastic_hydra.config.errors import ConfigError, nearest

__all__ = ["ROOT", "Problems", "shown"]

ROOT = "hydra.launcher"


def shown(value: object) -> str:
    """Write a value as it stands in YAML, as far as people need that: `null`, `true`, `node`."""
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Problems:
    """Collects what is wrong with the keys below `hydra.launcher`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, value: object, problem: str) -> None:
        line = f"{ROOT}.{key}={shown(value)}: {problem}"
        if line not in self.lines:  # some keys are checked with the whole sweep's and with their group's
            self.lines.append(line)

    def require(self, ok: bool, key: str, value: object, problem: str) -> None:
        if not ok:
            self.add(key, value, problem)

    def at_least(self, least: int, key: str, value: float, more: str = "") -> None:
        """Require a number that is not smaller than another."""
        self.require(value >= least, key, value, f"must be {least} or more{more}")

    def one_of(self, key: str, value: object, allowed: Collection[str], what: str = "") -> None:
        """Require one of some words; the nearest of them is suggested."""
        if value not in allowed:
            what = what or f"must be one of {', '.join(allowed)}"
            # To look for the nearest takes longer than all the other checks.
            self.add(key, value, what + nearest(shown(value), allowed))

    def not_blank(self, key: str, value: str | None) -> None:
        """Require a text that is not empty, or null."""
        self.require(value is None or bool(value.strip()), key, "''", "must not be empty; null is the default")

    def raise_any(self) -> None:
        if self.lines:
            raise ConfigError("\n".join(self.lines))
