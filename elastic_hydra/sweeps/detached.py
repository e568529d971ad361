"""How a launcher knows that it is one that was detached: it must not detach itself once more."""

from __future__ import annotations

import functools
import os

from omegaconf import DictConfig

from elastic_hydra.config import hosts
from elastic_hydra.config.detach import LOCAL, way_of

__all__ = ["OUTPUT", "has_time_to_begin", "is_left_alone", "output_of_this_launcher"]

OUTPUT = "ELASTIC_HYDRA_DETACHED_OUTPUT"
"""The variable by which whoever starts such a launcher says where its output is."""


@functools.cache
def output_of_this_launcher() -> str:
    """Return the file that has the output of this process, if it is a launcher that was detached; empty: it is not.

    What this process starts must not take itself for such a launcher, so the variable is removed.
    """
    return os.environ.pop(OUTPUT, "")


def has_time_to_begin(settings: DictConfig) -> bool:
    """Whether a launcher may wait for its first host as long as it takes, so that nobody can wait for its first batch.

    Args:
        settings: the sweep's `hydra.launcher`.
    """
    return settings.hosts.engine != hosts.LOCAL and settings.hosts.start_timeout is None


def is_left_alone(settings: DictConfig) -> bool:
    """Whether this process is a launcher that was detached, for whose first batch nobody waits.

    Args:
        settings: see above.
    """
    if not output_of_this_launcher():
        return False
    return way_of(settings.detach, settings.hosts.engine) != LOCAL or has_time_to_begin(settings)
