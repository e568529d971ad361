"""Which versions are installed, and how they differ: one function or entry for each difference that matters here.

A version is read when a caller asks for it, so that no process imports a package that it does not need.
"""

from __future__ import annotations

import functools
import importlib

__all__ = [
    "SINCE_TORCH",
    "hydra_ends_interrupted_multiruns",
    "hydra_resolves_groups_of_launchers",
    "lack_of_torch",
    "version_of",
]

SINCE_TORCH = {
    "duplicate_stderr_filters": (2, 10),
    "duplicate_stdout_filters": (2, 10),
    "virtual_local_rank": (2, 10),
    "health_check_server": (2, 13),
}
"""Options that the oldest supported torch does not have, each with the first version that has it."""


@functools.cache
def version_of(package: str) -> tuple[int, int]:
    """Return the major and the minor version of an installed package.

    Args:
        package: `torch` or `hydra`.
    """
    major, minor = str(importlib.import_module(package).__version__).split(".")[:2]
    return int(major), int(minor)


def lack_of_torch(option: str, installed: tuple[int, int]) -> str:
    """Say which torch an option needs; empty where the installed torch has the option.

    Args:
        option: one of `SINCE_TORCH`.
        installed: major and minor version of the installed torch.
    """
    since = SINCE_TORCH[option]
    if installed >= since:
        return ""
    return f"needs torch {since[0]}.{since[1]} or newer; {installed[0]}.{installed[1]} is installed"


def hydra_ends_interrupted_multiruns() -> bool:
    """Whether Hydra calls the callbacks' `on_multirun_end` when a multirun is interrupted."""
    return version_of("hydra") >= (1, 4)


def hydra_resolves_groups_of_launchers() -> bool:
    """Whether Hydra, when it makes a launcher, resolves the interpolations in the groups of its configuration."""
    return version_of("hydra") < (1, 4)
