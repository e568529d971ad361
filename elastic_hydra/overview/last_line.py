"""What a job's workers have written last."""

from __future__ import annotations

import os
import re

__all__ = ["last_line", "newest_restart"]

_TAIL = 8192
"""Bytes at the end of a file in which its last line is looked for."""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
"""What moves a terminal's cursor or colours its text."""


def newest_restart(log_dir: str) -> str | None:
    """Return the folder that the workers of a job have written into since they were started last; None: there is none.

    Args:
        log_dir: where the job's workers write.
    """
    try:
        names = [name for name in os.listdir(log_dir) if re.fullmatch(r"restart_\d+", name)]
    except OSError:
        return None
    newest = max(names, key=lambda name: int(name.partition("_")[2]), default=None)
    return None if newest is None else os.path.join(log_dir, newest)


def last_line(log_dir: str, rank: int = 0) -> str:
    """Return the last line that a rank has written to its files, without colours; empty: it has written none.

    Args:
        log_dir: where the job's workers write.
        rank: the worker's.
    """
    folder = newest_restart(log_dir)
    if folder is None:
        return ""
    newest, line = 0.0, ""
    for name in ("stdout.log", "stderr.log"):
        try:
            with open(os.path.join(folder, f"rank_{rank}", name), "rb") as file:
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
        shown = _ESCAPES.sub("", part).strip()
        if shown:
            return "".join(character for character in shown if character.isprintable())
    return ""
