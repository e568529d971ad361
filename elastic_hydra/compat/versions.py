"""Which versions are installed, and what they have and do: one flag for each difference that matters here.

Versions are read when they are asked for: nothing is imported that the process would do without.
"""

from __future__ import annotations

import functools
import importlib

__all__ = [
    "hydra_ends_interrupted_multiruns",
    "hydra_resolves_groups_of_launchers",
    "text_of",
    "version_of",
]


def text_of(package: str) -> str:
    """Return the version of an installed package, as it says it itself.

    Args:
        package: `torch` or `hydra`.
    """
    return str(importlib.import_module(package).__version__)


@functools.cache
def version_of(package: str) -> tuple[int, int]:
    """Return the major and the minor version of an installed package.

    Args:
        package: `torch` or `hydra`.
    """
    major, minor = text_of(package).split(".")[:2]
    return int(major), int(minor)


def hydra_ends_interrupted_multiruns() -> bool:
    """Whether Hydra calls the callbacks' `on_multirun_end` when a multirun is interrupted."""
    return version_of("hydra") >= (1, 4)


def hydra_resolves_groups_of_launchers() -> bool:
    """Whether Hydra resolves what is in the groups of a launcher's configuration when it makes the launcher."""
    return version_of("hydra") < (1, 4)
