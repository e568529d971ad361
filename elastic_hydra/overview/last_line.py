"""What a job's workers have written last."""

from __future__ import annotations

import os
import re

from elastic_hydra.overview.log_files import rank_folder, restarts_in
from elastic_hydra.overview.words import printable

__all__ = ["last_line"]

_TAIL = 8192
"""Bytes at the end of a file in which its last line is looked for."""


def last_line(log_dir: str, rank: int = 0) -> str:
    """Return the last line that a rank has written to its files, without colours; empty: it has written none.

    Args:
        log_dir: where the job's workers write.
        rank: the worker's.
    """
    restarts = restarts_in(log_dir)
    if not restarts:
        return ""
    newest, line = 0.0, ""
    for name in ("stdout.log", "stderr.log"):
        try:
            with open(os.path.join(rank_folder(log_dir, restarts[-1], rank), name), "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_mtime < newest:
                    continue
                file.seek(max(0, status.st_size - _TAIL))
                found = _last_shown(file.read().decode(errors="replace"))
        except OSError:
            continue  # the worker writes only one of the two, or neither
        if found:
            newest, line = status.st_mtime, found
    return line


def _last_shown(text: str) -> str:
    """Return the last line of a text that a terminal would still show: of a progress bar, its last state."""
    for part in reversed(re.split(r"[\r\n]", text)):
        shown = printable(part)
        if shown:
            return shown
    return ""
