"""A request that has come to a launcher, by whichever way, and waits for its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_hydra.control.requests import Request

__all__ = ["Asked"]


@dataclass(eq=False)
class Asked:
    """A request that waits for its answer."""

    request: Request
    by: str
    """Name of the user who asks."""
    _say: Callable[[Mapping[str, Any]], None]
    """Tells the user."""

    def answer(self, **words: Any) -> None:
        """Say what has become of the request."""
        self._say(words)

    def refuse(self, why: str) -> None:
        """Say why it is not done, and what to do instead."""
        self._say({"error": why})
