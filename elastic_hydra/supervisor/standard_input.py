"""The launcher's standard input, a terminal or a pipe, on its way to one worker: rank 0.

Workers are in sessions of their own. The kernel stops a process that reads a terminal in the background only in the
session of that terminal; so a worker could read the terminal although the launcher is in the background, and must not.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["give", "is_ours", "keep", "terminal"]

_kept: int | None = None
"""The launcher's standard input in a warm server and, until they know what they are, in its forks."""


def is_ours() -> bool:
    """Whether this process may read its standard input: it is no terminal, or one that this process has for itself."""
    with contextlib.suppress(OSError):  # closed, or a terminal that does not control this session
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    return False


def terminal() -> str:
    """Return a path by which other processes of this user open the terminal of this one; empty: it has none.

    The kernel keeps the path. The terminal's own name may mean nothing here, as in a container that was entered.
    """
    with contextlib.suppress(OSError):
        if os.isatty(0):
            return f"/proc/{os.getpid()}/fd/0"
    return ""


def keep() -> None:
    """Put standard input aside in a process that reads nothing itself."""
    global _kept
    if _kept is not None:
        return
    with contextlib.suppress(OSError):  # there is none
        _kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    if nothing != 0:
        os.dup2(nothing, 0)
        os.close(nothing)


def give(wanted: bool) -> None:
    """Make what was put aside this process's standard input, or leave it to others."""
    global _kept
    if _kept is None:
        return
    if wanted:
        os.dup2(_kept, 0)
    os.close(_kept)
    _kept = None
