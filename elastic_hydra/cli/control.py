"""What verbs have in common that speak to a running launcher."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from elastic_hydra.cli import sweeps
from elastic_hydra.cli.errors import UserError
from elastic_hydra.control.client import ControlError
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.overview.follow import Follower

__all__ = ["launcher_of", "or_user_error"]

T = TypeVar("T")


def launcher_of(directory: str) -> tuple[SweepBegan, Follower]:
    """Return the launcher of a sweep and its journal; of several nodes' launchers the one on this host.

    Raises:
        UserError: there is no such sweep, or nobody knows its launcher.
    """
    followers = sweeps.opened(sweeps.find(directory))
    began = [(follower.overview.began, follower) for follower in followers]
    known = [(launcher, follower) for launcher, follower in began if launcher is not None]
    if not known:
        raise UserError(f"{directory}: the journal does not say which launcher has written it")
    here = [found for found in known if found[0].host == os.uname().nodename]
    return (here or known)[0]


def or_user_error(function: Callable[[], T]) -> T:
    """Call a function, and say in one line why it cannot be done.

    Raises:
        UserError: it cannot.
    """
    try:
        return function()
    except ControlError as error:
        raise UserError(str(error)) from None
