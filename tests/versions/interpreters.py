"""Which Pythons this machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def find(further: Iterable[Path] = ()) -> dict[str, Path]:
    """Find an interpreter of each version.

    Args:
        further: interpreters that are in none of the usual places; they are preferred.

    Returns:
        the path of each version that was found, such as "3.12".

    Raises:
        SystemExit: one of `further` is no Python that is tested.
    """
    found: dict[str, Path] = {}
    for path in further:
        version = _version(path)
        if version not in PYTHONS:
            raise SystemExit(f"{path}: not a Python of {', '.join(PYTHONS)}")
        found[version] = path.absolute()
    for path in _usual_places():
        found.setdefault(_version(path), path)
    return {version: found[version] for version in PYTHONS if version in found}


def _usual_places() -> Iterable[Path]:
    # The running Python may be one of a virtual environment; what is made from it does not see that one's packages.
    yield Path(sys.executable)
    for version in PYTHONS:
        yield from (Path(path) for path in [shutil.which(f"python{version}")] if path)
        # Where pyenv and uv keep what they install; a program of that name on the path may be one that only says so.
        yield from sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
        yield from sorted(Path.home().glob(f".local/share/uv/python/cpython-{version}*/bin/python"), reverse=True)


def _version(python: Path) -> str:
    """Return the version of an interpreter, or "" if it is none."""
    code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
