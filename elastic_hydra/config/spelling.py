"""How keys are written in texts for people: below `hydra.launcher`, or alone where nothing else is configured."""

from __future__ import annotations

import re

__all__ = ["complaint", "spelled", "write_keys_alone"]

_alone = False


def write_keys_alone() -> None:
    """Have all texts of this process name keys and profiles as `elastic-hydra run` takes them: `retry.max_restarts`."""
    global _alone
    _alone = True


def spelled(text: str) -> str:
    """Return a text for people, in which keys are written as the user of this process writes them.

    Args:
        text: with the keys in full: `hydra.launcher.retry.max_restarts`, `hydra/launcher/retry=transient`.
    """
    return text.replace("hydra.launcher.", "").replace("hydra/launcher/", "") if _alone else text


def complaint(text: str) -> str:
    """Return what is wrong as this process says it: `elastic-hydra run` begins each line with its name."""
    return re.sub(r"^(?! )", "elastic-hydra: ", text, flags=re.MULTILINE) if _alone else text
