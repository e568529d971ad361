"""The sweep that a command line is about: found, read, and refused in one line where that is impossible."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from elastic_hydra.cli.errors import UserError
from elastic_hydra.journal.codec import NewerFormat
from elastic_hydra.journal.events import VERSION
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.overview.find import journals_in, sweep_around, sweeps_below
from elastic_hydra.overview.follow import Follower
from elastic_hydra.overview.job import JobOverview
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import shown_path

__all__ = ["DEFAULT_FOLDERS", "find", "job_of", "opened", "read"]

DEFAULT_FOLDERS = ("multirun", "outputs")
"""Where Hydra puts sweeps and single runs, unless it is told otherwise."""


def find(given: str | None) -> Path:
    """Return the directory of the sweep that is meant.

    Args:
        given: a sweep's directory, or a folder with sweeps below it, of which the newest is meant; None: the present
            directory if it is a sweep's, else the newest sweep below `multirun` and `outputs`.

    Raises:
        UserError: there is no sweep.
    """
    if given is not None:
        return _given(Path(given))
    if _has_journal(Path()):
        return Path()
    found = [(_changed(place), place) for name in DEFAULT_FOLDERS for place in sweeps_below(Path(name))[:1]]
    if not found:
        raise UserError(
            "there is no sweep below ./multirun or ./outputs: give its directory, or change into the project's folder"
        )
    return max(found)[1]


def _given(place: Path) -> Path:
    if place.is_file() and place.name.startswith("journal."):
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{place}: there is no such directory")
    if _has_journal(place):
        return place
    if below := sweeps_below(place):
        return below[0]
    around = sweep_around(place)
    hint = f"it is inside of the sweep {shown_path(around)}: give that one" if around else f"no {FILE_NAME} is in it"
    raise UserError(f"{place}: this is no sweep's directory, {hint}")


def _has_journal(place: Path) -> bool:
    try:
        return bool(journals_in(place))
    except OSError as error:
        raise UserError(f"{place}: the directory cannot be read ({error.strerror})") from None


def _changed(place: Path) -> float:
    return max(os.stat(path).st_mtime for path in journals_in(place))


def opened(place: Path) -> list[Follower]:
    """Read all journals of a sweep.

    Args:
        place: the sweep's directory.

    Returns:
        one follower for each journal; the first is that of the launcher that came first, others are of other nodes.

    Raises:
        UserError: a journal cannot be read.
    """
    followers = [Follower(path) for path in journals_in(place)]
    gc.disable()  # nothing of a journal is garbage, and to look for some takes a sixth of the time
    try:
        for follower in followers:
            read(follower)
    finally:
        gc.freeze()
        gc.enable()
    return followers


def read(follower: Follower) -> bool:
    """Read what is new in a journal; whether anything is.

    Raises:
        UserError: the journal cannot be read.
    """
    try:
        return follower.read()
    except NewerFormat as newer:
        raise UserError(
            f"{follower.path}: version {newer.version} of the format, and this elastic_hydra reads versions up to "
            f"{VERSION}: use the elastic_hydra that has written it, or a later one"
        ) from None
    except OSError as error:
        raise UserError(f"{follower.path}: it cannot be read ({error.strerror}): make it readable for you") from None


def job_of(sweep: SweepOverview, num: int | None) -> JobOverview:
    """Return a job of a sweep.

    Args:
        sweep: the sweep.
        num: the job; None: the only one.

    Raises:
        UserError: the sweep has no such job, or several where none is named.
    """
    if num in sweep.jobs:
        return sweep.jobs[num]
    nums, place = sorted(sweep.jobs), shown_path(sweep.folder)
    if not nums:
        raise UserError(f"{place} has no job yet")
    if num is None and len(nums) == 1:
        return sweep.jobs[nums[0]]
    if num is None:
        raise UserError(f"JOB is missing: {place} has {len(nums)} jobs, #{nums[0]} to #{nums[-1]}")
    range_ = f"its only job is #{nums[0]}" if len(nums) == 1 else f"its {len(nums)} jobs are #{nums[0]} to #{nums[-1]}"
    more = f"; {sweep.planned} more are not composed yet" if sweep.planned and num > nums[-1] else ""
    raise UserError(f"{place} has no job #{num}: {range_}{more}")
