"""Signals as events: their handler queues them, and they are raised where the main thread expects it.

That is where it waits for a server's messages (`check`), and in calls that nothing else could end (`interruptibly`):
user code, a rendezvous. Anywhere else, an exception would meet a job on its way from one list to another.

What must never happen: a signal is lost, or a second Ctrl-C does nothing because the first one still waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from elastic_hydra.supervisor import signals

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SignalQueue", "check", "in_use", "interruptibly"]

P = ParamSpec("P")
T = TypeVar("T")

_entered: list[SignalQueue] = []
"""Those of the main thread; the last one is in use."""


class _Arrived(BaseException):
    """Ends a call of `interruptibly`; no exception of its own kind, which the code that is called might catch."""


class SignalQueue:
    """While entered, it handles signals: they end what the main thread does, at its next `check` or `interruptibly`.

    A signal that comes again changes nothing, since batch systems repeat theirs. Only Ctrl-C counts each time: while an
    earlier one waits, it is raised at once, whatever is under way. Threads other than the main one do not get any.

    Args:
        numbers: of the signals.
        error: makes the exception to be raised for one.
    """

    def __init__(self, numbers: Iterable[int], error: Callable[[signal.Signals], BaseException]) -> None:
        self._numbers = list(numbers)
        self._error = error
        self._had: set[int] = set()
        self._waiting: deque[int] = deque()
        self._interrupts = False
        """Whether a call is under way that a signal ends at once."""
        self._has_raised = False
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._have_signals_wake()
            for number in self._numbers:
                self._undo.callback(signals.put_back, number, signals.displace(number, self._handle))
            _entered.append(self)
            self._undo.callback(_entered.remove, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
        if not self._has_raised:  # else this process ends as the first one says
            self.check()

    def _have_signals_wake(self) -> None:
        # The kernel may give a signal to any thread, torch's own too, and does so when the process was stopped. The
        # main thread would sleep on.
        readable, written = self._wakeup = socket.socketpair()
        for end in (readable, written):
            self._undo.enter_context(end).setblocking(False)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)

    def fileno(self) -> int:
        """Return what becomes readable when a signal arrives, for `select.poll`."""
        return self._wakeup[0].fileno()

    def check_after_wait(self) -> None:
        """Do what `check` does, and have the next signal end the next wait."""
        with contextlib.suppress(BlockingIOError):
            self._wakeup[0].recv(4096)
        self.check()

    def leave_to_parent(self) -> None:
        """Have nothing to do with signals any more, in a fork of the process whose queue it is."""
        self._undo.pop_all()
        signal.set_wakeup_fd(-1)
        for end in self._wakeup:
            end.close()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number in self._had and number != signal.SIGINT:
            return
        self._had.add(number)
        self._waiting.append(number)
        if self._interrupts:
            self._interrupts = False
            raise _Arrived
        if self._waiting.count(signal.SIGINT) > 1:
            self.check()

    def check(self) -> None:
        """Raise the exception of the first signal that has come, and was not raised yet."""
        if self._waiting:
            self._has_raised = True
            raise self._error(signal.Signals(self._waiting.popleft()))

    def interruptibly(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function, and end it when a signal comes; one that waits is raised first."""
        outer = self._interrupts
        try:
            try:
                self._interrupts = True
                self.check()
                return function(*args, **kwargs)
            finally:
                self._interrupts = outer
        except _Arrived:
            self.check()
            raise  # never: what has ended the call waits


def check() -> None:
    """Raise the exception of a signal that has come, if one has."""
    if (queue := in_use()) is not None:
        queue.check()


def interruptibly(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that cannot be woken, such as user code or torch's waits; a signal ends it at once."""
    queue = in_use()
    return function(*args, **kwargs) if queue is None else queue.interruptibly(function, *args, **kwargs)


def in_use() -> SignalQueue | None:
    """Return the queue whose signals end what this thread does."""
    if _entered and threading.current_thread() is threading.main_thread():
        return _entered[-1]
    return None


def _forget() -> None:
    while _entered:
        _entered.pop().leave_to_parent()


os.register_at_fork(after_in_child=_forget)
