"""How a launcher has an agent write the stacks of its workers: by a signal that does no harm to who is not ready."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from elastic_hydra.supervisor import signals

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SIGNAL", "StacksRequest"]

SIGNAL = signal.SIGURG
"""The kernel ignores it by default: an agent that is not ready for it yet does not die of it. Go uses it, likewise."""


class StacksRequest:
    """While entered, in an agent, it notes that somebody wants to see the stacks; waits of the main thread end then."""

    def __init__(self) -> None:
        self.is_there = False
        """Whether somebody wants to, and has not had them yet."""
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._undo.callback(signals.put_back, SIGNAL, signals.displace(SIGNAL, self._note))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _note(self, _: int, __: FrameType | None) -> None:
        self.is_there = True
