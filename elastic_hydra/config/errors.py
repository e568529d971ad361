"""The error for a configuration that cannot be launched."""

from __future__ import annotations

from collections.abc import Iterable

from elastic_hydra.config.spelling import spelled

__all__ = ["ConfigError", "nearest"]


class ConfigError(ValueError):
    """A configuration cannot be launched. The text names keys, not code, so it is shown without a stack trace."""

    def __str__(self) -> str:
        return spelled(super().__str__())


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return ` (did you mean X?)` for the allowed word that is most like `word`; empty when none is like it."""
    import difflib  # few processes need it

    close = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
