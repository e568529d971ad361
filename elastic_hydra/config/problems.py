"""What is wrong with a configuration, collected so that it is said at once."""

from __future__ import annotations

from collections.abc import Collection

from elastic_hydra.config.errors import ConfigError, nearest

__all__ = ["Problems"]

ROOT = "hydra.launcher"


class Problems:
    """Collects what is wrong with the keys below `hydra.launcher`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, key: str, value: object, problem: str) -> None:
        self.lines.append(f"{ROOT}.{key}={value if value is not None else 'null'}: {problem}")

    def require(self, ok: bool, key: str, value: object, problem: str) -> None:
        if not ok:
            self.add(key, value, problem)

    def one_of(self, key: str, value: str, allowed: Collection[str], what: str = "") -> None:
        """Require one of some words; the nearest of them is suggested."""
        if value not in allowed:
            what = what or f"must be one of {', '.join(allowed)}"
            self.add(key, value, what + nearest(value, allowed))  # to look for the nearest takes longer than all else

    def raise_any(self) -> None:
        if self.lines:
            raise ConfigError("\n".join(self.lines))
