"""Where sweeps are: directories with a journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from elastic_hydra.journal.place import FILE_NAME, is_journal

__all__ = ["journals_in", "sweep_around", "sweeps_below"]

_DEEPEST = 5
"""How many levels below a folder sweeps are looked for: Hydra's default directories are two levels below `multirun`."""


def journals_in(folder: Path) -> list[Path]:
    """Return the journals in a directory; none: it is no sweep's.

    Where launchers on several nodes share the directory, each writes a journal of its own. The first one is that of the
    launcher that came first; the others follow by name.

    Raises:
        OSError: the directory cannot be read.
    """
    # To open a named pipe would wait for ever.
    names = [name for name in os.listdir(folder) if is_journal(name) and (folder / name).is_file()]
    return [folder / name for name in sorted(names, key=lambda name: (name != FILE_NAME, name))]


def sweeps_below(folder: Path) -> list[Path]:
    """Return the directories of all sweeps in and below a folder, the one whose journal was written to last first."""
    found = sorted(_below(os.fspath(folder), _DEEPEST), reverse=True)
    return [Path(place) for _, place in found]


def sweep_around(place: Path) -> Path | None:
    """Return the directory of the sweep in which something is, as a job's directory is; None: in none."""
    for folder in place.absolute().parents:
        if (folder / FILE_NAME).is_file():
            return folder
    return None


def _below(folder: str, depth: int) -> Iterator[tuple[float, str]]:
    """Yield the sweeps in and below a folder, with the time at which their journals were written to."""
    folders, changed = [], 0.0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == ".hydra":
                    depth = 0  # the directory of one run of Hydra's: no sweep is below it
                elif is_journal(entry.name) and entry.is_file():
                    changed = max(changed, entry.stat().st_mtime)
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    except OSError:
        return  # a folder that cannot be read, or that is gone meanwhile, shows nothing
    if changed:
        yield changed, folder
    elif depth > 0:
        for inner in folders:
            yield from _below(inner, depth - 1)
