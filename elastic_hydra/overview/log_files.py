"""Where the workers of a job write: `<log_dir>/restart_<n>/rank_<rank>/{stdout.log,stderr.log}`."""

from __future__ import annotations

import itertools
import os
import re

__all__ = ["has_files", "next_restart", "rank_folder", "ranks_in", "restart_folder", "restarts_in"]


def restarts_in(log_dir: str) -> list[int]:
    """Return the numbers of the folders that the workers of a job have written into, one for each of their starts.

    Args:
        log_dir: where the job's workers write.

    Returns:
        the numbers in their order; none when there is no folder, or none that can be read.
    """
    return _numbers(log_dir, "restart")


def next_restart(log_dir: str) -> int:
    """Return the number of the folder that the workers of a job write into when they start next."""
    taken = restarts_in(log_dir)
    return next(number for number in itertools.count() if number not in taken)


def ranks_in(log_dir: str, restart: int) -> list[int]:
    """Return the ranks that have a folder of their own for one start of the workers, in their order."""
    return _numbers(restart_folder(log_dir, restart), "rank")


def restart_folder(log_dir: str, restart: int) -> str:
    """Return the folder of all ranks for one start of the workers."""
    return os.path.join(log_dir, f"restart_{restart}")


def rank_folder(log_dir: str, restart: int, rank: int) -> str:
    """Return the folder of a rank for one start of the workers."""
    return os.path.join(restart_folder(log_dir, restart), f"rank_{rank}")


def has_files(folder: str) -> bool:
    """Whether there is any file in or below a folder: with `logs=console`, workers that are killed leave none."""
    return any(files for _, _, files in os.walk(folder))


def _numbers(folder: str, word: str) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{word}_(\d+)", name)))
