"""The live view of a sweep: when it is drawn, and when the terminal is given back.

The launcher has one thread, which waits for events; so the view is drawn between two waits (`look`), and the waits are
as short as the view needs (`until`). What must never happen: that the view holds the launcher up, or that it outlives
the launcher. So nothing is drawn while the terminal takes no output, and the server has what gives the terminal back
should the launcher be killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from elastic_hydra.live.footer import GIVE_BACK, Footer
from elastic_hydra.live.picture import Painter, Picture
from elastic_hydra.live.terminal import is_in_foreground
from elastic_hydra.live.view import View
from elastic_hydra.supervisor import signals
from elastic_hydra.supervisor.client import Client, ServerLost

__all__ = ["LiveView"]

_INTERVAL = 1.0
"""Seconds between two drawings when nothing happens: clocks go on."""
_SHORTEST_INTERVAL = 0.25
"""Seconds between two drawings when much happens."""
_LEAST_HEIGHT = 8
"""Rows of a terminal below which there is no view."""


class LiveView(View):
    """Shows a sweep at the bottom of the terminal that is standard output.

    Args:
        observe: takes a picture of the sweep, in which so many running jobs can be shown.
    """

    def __init__(self, observe: Callable[[int], Picture]) -> None:
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        self._observe = observe
        self._footer = Footer(1, encoding)
        self._painter = Painter(encoding)
        self._picture: Picture | None = None
        self._drawn = 0.0
        """When it was drawn last, on the monotonic clock."""
        self._due = 0.0
        """When it is to be drawn next."""
        self._drawing = False
        self._stop_asked = False
        """Whether this process was told to stop (Ctrl-Z) while the view was drawn."""

    @contextlib.contextmanager
    def shown(self, server: Client | None) -> Iterator[None]:
        """See `View`; while another process has the terminal, nothing is drawn."""
        self._due = 0.0
        with contextlib.ExitStack() as undo:
            undo.callback(self._end, server)
            _leave_will(server, GIVE_BACK)
            for number, handler in ((signal.SIGTSTP, self._on_stop), (signal.SIGWINCH, self._on_resize)):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    undo.callback(signals.put_back, number, signals.displace(number, handler))
            yield

    def until(self, moment: float | None) -> float:
        """See `View`."""
        return self._due if moment is None else min(moment, self._due)

    def look(self) -> None:
        """See `View`."""
        now = time.monotonic()
        if now < self._drawn + _SHORTEST_INTERVAL:
            self._due = min(self._due, self._drawn + _SHORTEST_INTERVAL)
            return
        self._drawn, self._due = now, now + _INTERVAL
        if not is_in_foreground():
            return
        with contextlib.suppress(OSError):  # the terminal is gone: the launcher hears of that by SIGHUP
            self._picture = self._observe(os.get_terminal_size(1).lines // 2)
            self._draw()

    def _draw(self) -> None:
        self._drawing = True
        try:
            columns, rows = os.get_terminal_size(1)
            lines = []
            if self._picture is not None and rows >= _LEAST_HEIGHT:
                lines = self._painter.lines(self._picture, columns - 1, rows // 2)
            self._footer.show(lines)
        finally:
            self._drawing = False
        if self._stop_asked:
            self._stop_asked = False
            self._stop()

    def _end(self, server: Client | None) -> None:
        self._footer.remove()
        self._picture = None
        _leave_will(server, "")

    # --- signals ---------------------------------------------------------------------------------------------------

    def _on_stop(self, _: int, __: FrameType | None) -> None:
        """Give the terminal back before this process stops, as Ctrl-Z wants it."""
        if self._drawing:
            self._stop_asked = True
        else:
            self._stop()

    def _stop(self) -> None:
        self._footer.remove()
        signals.suspend()
        self._drawn = self._due = 0.0

    def _on_resize(self, _: int, __: FrameType | None) -> None:
        """Draw the last picture anew: until then, the rows of the view are somewhere in the middle."""
        if not self._drawing and self._picture is not None and is_in_foreground():
            with contextlib.suppress(OSError):
                self._draw()


def _leave_will(server: Client | None, text: str) -> None:
    if server is None:
        return
    with contextlib.suppress(ServerLost):  # whoever waits for the server hears of that
        server.leave_will(text)
