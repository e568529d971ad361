"""Handlers of signals: those of this package in the launcher while it launches, those of the app in the workers.

A handler that the app sets at import is meant for the process that trains, and that is a worker. Where the launcher has
imported the app, the launcher notes the app's handlers and handles signals itself; workers get the noted ones back.
"""

from __future__ import annotations

import os
import signal
from typing import Any

__all__ = ["ALL", "displace", "forget", "put_back", "reset", "restore", "suspend"]

ALL = tuple(signal.valid_signals())
"""The signals of this system; Python makes the set anew at each call, which takes 0.3 ms."""

_displaced: dict[int, Any] = {}
"""Handlers, by signal, in whose place this process has handlers of this package."""

_for_the_app: dict[int, Any] = {}
"""Handlers that `reset` has taken away."""

_SET_BY_SHELLS = {signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""Ignored in what runs in the background, or under nohup: workers are ended by them all the same."""


def displace(number: int, handler: Any) -> Any:
    """Handle a signal in the place of the app.

    Returns:
        what has handled it, for `put_back`.
    """
    before = signal.signal(number, handler)
    _displaced.setdefault(number, before)
    return before


def put_back(number: int, handler: Any) -> None:
    """Undo `displace`."""
    if handler is not None:  # not set by Python
        signal.signal(number, handler)
    if _displaced.get(number) is handler:
        _displaced.pop(number, None)


def suspend() -> None:
    """Stop this process as Ctrl-Z does where nobody handles it; returns when the shell lets the process go on."""
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)


def reset() -> None:
    """Handle signals in a forked process as a new interpreter does, and remember what the app had set.

    What is no function of Python's, such as the handlers of faulthandler, stays.
    """
    signal.set_wakeup_fd(-1)
    for number in ALL:
        handler = signal.getsignal(number)
        if not callable(handler) and not (handler is signal.SIG_IGN and number in _SET_BY_SHELLS):
            continue
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if callable(_displaced.get(number, handler)):
            _for_the_app[number] = _displaced.get(number, handler)
    _displaced.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def restore() -> None:
    """Give a worker the handlers that the app has set."""
    for number, handler in _for_the_app.items():
        signal.signal(number, handler)


def forget() -> None:
    """Stop ignoring signals before a program is executed, which would inherit that; Python itself ignores two."""
    for number in ALL:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
