"""What is wrong with a configuration, collected so that one error names all of it."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from elastic_hydra.config.errors import ConfigError, nearest

__all__ = ["ROOT", "Problems", "shown"]

ROOT = "hydra.launcher"


def shown(value: object) -> str:
    """Write a value for people as it stands in YAML: `null`, `true`, `node`."""
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
        """Note that a key is wrong.

        Args:
            key: its name below `hydra.launcher`.
            value: its value.
            problem: what is wrong, and what is allowed.
        """
        line = f"{ROOT}.{key}={shown(value)}: {problem}"
        if line not in self.lines:  # some keys are checked twice: with the whole sweep's keys and with their group
            self.lines.append(line)

    def require(self, ok: bool, key: str, value: object, problem: str) -> None:
        """Note that a key is wrong unless a condition holds."""
        if not ok:
            self.add(key, value, problem)

    def at_least(self, least: int, key: str, value: float, more: str = "") -> None:
        """Require a number that is not smaller than another."""
        self.require(value >= least, key, value, f"must be {least} or more{more}")

    def one_of(self, key: str, value: object, allowed: Collection[str], requirement: str = "") -> None:
        """Require one of some words; the nearest of them is suggested."""
        if value not in allowed:
            requirement = requirement or f"must be one of {', '.join(allowed)}"
            # Only now, since looking for the nearest word takes longer than all the other checks.
            self.add(key, value, requirement + nearest(shown(value), allowed))

    def not_blank(self, key: str, value: str | None) -> None:
        """Require a text that is not empty, or null."""
        self.require(value is None or bool(value.strip()), key, "''", "must not be empty; null is the default")

    def raise_any(self) -> None:
        """Raise an error that lists all problems, if there are any.

        Raises:
            ConfigError: something is wrong.
        """
        if self.lines:
            raise ConfigError("\n".join(self.lines))
