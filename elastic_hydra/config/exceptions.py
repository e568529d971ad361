"""Names of exceptions: any may be the user's own, and yet most misspelt ones can be told."""

from __future__ import annotations

import builtins
import difflib
import importlib.metadata
import importlib.util
import sys

from elastic_hydra.config.words import WORDS

__all__ = ["doubt_about"]

_TORCHS = ("OutOfMemoryError", "DistBackendError", "DistNetworkError", "DistStoreError", "DistError")
_BUILTIN = [name for name, it in vars(builtins).items() if isinstance(it, type) and issubclass(it, BaseException)]
_KNOWN = (*_BUILTIN, *_TORCHS)
"""The short names that exist everywhere."""


def doubt_about(name: str) -> str | None:
    """Say why no exception can have a name.

    A name with dots must lead somewhere, as far as that can be told without importing anything. One without dots may be
    any class of the user's, so it is doubted only where it is all but the same as one that is known: `RuntimeEror`.

    Args:
        name: of a class, with or without its module.

    Returns:
        the reason, with a suggestion; None: there may be such a class.
    """
    module, dot, short = name.rpartition(".")
    if dot:
        return _doubt_about_dotted(module, short)
    if short in _KNOWN:
        return None
    if short.isupper() and short.lower() in WORDS:
        return f"is no class (did you mean {short.lower()}?)"
    meant = next((known for known in _KNOWN if _all_but_same(short, known)), None)
    if meant is None:
        return None
    return f"is all but {meant} (did you mean {meant}? A class of your own with this name needs its module in front)"


def _doubt_about_dotted(module: str, short: str) -> str | None:
    loaded = sys.modules.get(module)
    if loaded is not None:
        classes = [key for key, value in vars(loaded).items() if isinstance(value, type)]
        if hasattr(loaded, short) or module == "__main__":
            return None
        close = difflib.get_close_matches(short, classes, n=1, cutoff=0.5)
        return f"{module} has no {short}" + (f" (did you mean {module}.{close[0]}?)" if close else "")
    top = module.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return None
    # A profile that several projects share may name exceptions of what is not installed here: only a slip is told.
    installed = {*sys.modules, *importlib.metadata.packages_distributions()}
    meant = next((name for name in sorted(installed) if _all_but_same(top, name)), None)
    return None if meant is None else f"there is no module {top} (did you mean {meant}?)"


def _all_but_same(word: str, known: str) -> bool:
    """Whether two names differ by a slip or two of the keyboard, and begin alike: `IPError` is not `IOError`."""
    if word.lower() == known.lower():
        return True
    if word[0] != known[0] or abs(len(word) - len(known)) > 2 or len(known) < 5:
        return False
    short = len(known) < 9
    return not (short and word[:2] != known[:2] and sorted(word) != sorted(known)) and _slips(word, known) <= 2 - short


def _slips(word: str, known: str) -> int:
    """Count the letters that are missing, too many, wrong, or have changed places with the next one."""
    before: list[int] = []
    row = list(range(len(known) + 1))
    for i, letter in enumerate(word, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(known, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == known[j - 2] and word[i - 2] == other:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]
