"""Whether a person looks at standard output, at a terminal that can be drawn on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

__all__ = ["is_in_foreground", "is_watched"]

_STDOUT = 1


def is_watched(environ: Mapping[str, str]) -> bool:
    """Whether standard output is a terminal on which a view can be drawn.

    A terminal that is not `sys.stdout`, as that of a Jupyter server, is not for the output of this program. Systems
    that run jobs for nobody to see (CI) may give them a terminal, too.

    Args:
        environ: environment variables.
    """
    if environ.get("TERM", "dumb") in ("dumb", "unknown", "") or environ.get("CI", "").lower() not in (
        "",
        "0",
        "false",
    ):
        return False
    with contextlib.suppress(Exception):  # sys.stdout is None, closed, or something of the app's own
        return sys.stdout.fileno() == _STDOUT and os.isatty(_STDOUT) and min(os.get_terminal_size(_STDOUT)) > 0
    return False


def is_in_foreground() -> bool:
    """Whether the terminal is this process's to draw on now: a shell gives it to one job at a time."""
    with contextlib.suppress(OSError):  # the terminal is gone, or not that of this session
        return os.tcgetpgrp(_STDOUT) == os.getpgrp()
    return False
