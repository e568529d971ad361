"""The error for a configuration that cannot be launched."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hydra.errors import CompactHydraException

__all__ = ["ConfigError", "nearest"]


class ConfigError(CompactHydraException, ValueError):
    """A configuration cannot be launched. Hydra prints it without a stack trace: it names keys, not code."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the allowed word that is most like `word`, or nothing."""
    close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
