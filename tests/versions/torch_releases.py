"""Which releases of torch there are for this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys

OLDEST = (2, 9)


def minors(index: str | None) -> list[str]:
    """Return the minor versions that pip finds and would install, from 2.9 on, oldest first.

    A machine's constraints may end before the newest release: what pip would install is the last that is returned.

    Args:
        index: address of pip's index; None: the one that pip is set up for.

    Raises:
        CalledProcessError: pip finds no torch.
    """
    from_index = ["--index-url", index] if index else []
    listed = _pip("index", "versions", "torch", *from_index)
    report = _pip(
        "install", "--dry-run", "--ignore-installed", "--no-deps", "-q", "--report", "-", "torch", *from_index
    )
    return select(listed, json.loads(report)["install"][0]["metadata"]["version"])


def select(listed: str, newest: str) -> list[str]:
    """Return the minor versions in a list of releases, from 2.9 to that of the newest one, oldest first."""
    (last,) = _minors_in(newest)
    return [f"{major}.{minor}" for major, minor in sorted(_minors_in(listed)) if OLDEST <= (major, minor) <= last]


def _minors_in(text: str) -> set[tuple[int, int]]:
    return {(int(major), int(minor)) for major, minor in re.findall(r"(?<![\d.])(\d+)\.(\d+)\.\d+", text)}


def _pip(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=True).stdout
