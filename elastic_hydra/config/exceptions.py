"""Names of exceptions: any name may be a class of the user's, but most misspelt names can be recognised."""

from __future__ import annotations

import builtins
import difflib
import importlib.metadata
import importlib.util
import sys

from elastic_hydra.config.words import WORDS

__all__ = ["doubt_about"]

_TORCHS = ("OutOfMemoryError", "DistBackendError", "DistNetworkError", "DistStoreError", "DistError")
_BUILTIN = [
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
]
_KNOWN = (*_BUILTIN, *_TORCHS)
"""The short names that exist everywhere."""


def doubt_about(name: str) -> str | None:
    """Say why there is probably no exception of a name.

    A name with dots must lead to a module, as far as that can be found out without importing anything. A name without
    dots may be any class of the user's, so it is doubted only where it is almost a known one: `RuntimeEror`.

    Args:
        name: the name of a class, with or without its module.

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
    # A profile that several projects share may name exceptions of packages that are not installed here. So a missing
    # module is no problem, unless its name is almost that of an installed one.
    installed = {*sys.modules, *importlib.metadata.packages_distributions()}
    meant = next((name for name in sorted(installed) if _all_but_same(top, name)), None)
    return None if meant is None else f"there is no module {top} (did you mean {meant}?)"


def _all_but_same(word: str, known: str) -> bool:
    """Whether two names begin alike and differ by one or two slips of the keyboard: `IPError` is not `IOError`."""
    if word.lower() == known.lower():
        return True
    if word[0] != known[0] or abs(len(word) - len(known)) > 2 or len(known) < 5:
        return False
    short = len(known) < 9
    return not (short and word[:2] != known[:2] and sorted(word) != sorted(known)) and _slips(word, known) <= 2 - short


def _slips(word: str, known: str) -> int:
    """Count the letters that are missing, superfluous, wrong, or have changed places with the next one."""
    last_row: list[int] = []
    row = list(range(len(known) + 1))
    for i, letter in enumerate(word, 1):
        row_before_last, last_row, row = last_row, row, [i]
        for j, known_letter in enumerate(known, 1):
            best = min(last_row[j] + 1, row[j - 1] + 1, last_row[j - 1] + (letter != known_letter))
            if i > 1 and j > 1 and letter == known[j - 2] and word[i - 2] == known_letter:
                best = min(best, row_before_last[j - 2] + 1)
            row.append(best)
    return row[-1]
