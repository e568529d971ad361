"""Which releases of torch there are, and one of them without CUDA's libraries."""

from __future__ import annotations

import re
import subprocess
import sys

OLDEST = (2, 9)


def minors(index: str | None) -> list[str]:
    """Return the minor versions that pip finds, from 2.9 on, oldest first.

    Args:
        index: address of pip's index; None: the one that pip is set up for.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", "torch", *(["--index-url", index] if index else [])]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {(int(major), int(minor)) for major, minor in re.findall(r"(?<![\d.])(\d+)\.(\d+)\.\d+", listed)}
    return [f"{major}.{minor}" for major, minor in sorted(found) if (major, minor) >= OLDEST]
