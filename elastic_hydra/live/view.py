"""What the launcher does with the view of its sweep, where there is one and where there is none."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from elastic_hydra.live.terminal import is_watched
from elastic_hydra.supervisor.client import Client

__all__ = ["View", "view_of"]


class View:
    """Shows nothing."""

    @contextlib.contextmanager
    def shown(self, server: Client | None) -> Iterator[None]:
        """Show the view as long as this is entered.

        Args:
            server: gives the terminal back should this process be killed; None: there is none.
        """
        yield

    def look(self) -> None:
        """Draw what there is to see, unless that was done a moment ago."""

    def until(self, moment: float | None) -> float | None:
        """Return when to look again, at the latest, on the monotonic clock; None: when something happens.

        Args:
            moment: when the launcher wants to do something else, likewise.
        """
        return moment


def view_of(journal: Path, outlook: Callable[[], tuple[int, str]], *, live: bool) -> View:
    """Make the view of a sweep.

    Args:
        journal: of the sweep.
        outlook: says how many jobs the sweep has, and how long it will take, in words: empty if nobody knows.
        live: whether it is to be live where somebody looks.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()  # another one cannot handle Ctrl-Z
    if not live or not in_main_thread or not is_watched(os.environ):
        return View()
    from elastic_hydra.live.live_view import LiveView  # rich takes 40 ms to import
    from elastic_hydra.live.observer import Observer

    return LiveView(Observer(journal, outlook).picture)
