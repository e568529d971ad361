"""Where the YAML profiles are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["profile_folder"]


def profile_folder() -> Path:
    """Return the folder that Hydra searches for profiles: in the wheel in the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"
