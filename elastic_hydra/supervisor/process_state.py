"""What a launch changes in this process for a while: variables, signal handlers, how signals wake it.

Several launches may run in threads of one process. So the first one that changes something notes how it was, and the
last one puts it back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from elastic_hydra.supervisor import signals

__all__ = ["environment", "handlers", "heard_while_logging", "shared_change", "wakeups", "woken_by_signals"]

wakeups: list[socket.socket] = []
"""What becomes readable when a signal arrives; the last one is in use."""
_written: list[socket.socket] = []
"""Their other ends."""

_lock = threading.Lock()
_users: dict[str, int] = {}
"""How many threads use what this process has but once, by name."""
_before: dict[str, Any] = {}
"""How it was before the first of them came."""


@contextlib.contextmanager
def shared_change(name: str, change: Callable[[], Any], restore: Callable[[Any], object]) -> Iterator[None]:
    """Change something of this process for a while, in any number of threads: the last one puts it back.

    Args:
        name: of what is changed.
        change: changes it, and returns how it was.
        restore: gets what the first `change` has returned.
    """
    with _lock:
        before = change()
        _users[name] = _users.get(name, 0) + 1
        _before.setdefault(name, before)
    try:
        yield
    finally:
        with _lock:
            _users[name] -= 1
            if not _users[name]:
                del _users[name]
                restore(_before.pop(name))


def environment(name: str, value: str) -> contextlib.AbstractContextManager[None]:
    """Set an environment variable for a while."""

    def change() -> str | None:
        before = os.environ.get(name)
        os.environ[name] = value
        return before

    def restore(before: str | None) -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    return shared_change(name, change, restore)


@contextlib.contextmanager
def handlers(names: str, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals from now on, and put their handlers back afterwards.

    Left there, Ctrl-C would no longer be KeyboardInterrupt.

    Args:
        names: of the signals, separated by commas.
        handler: what is called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.Signals[name.strip()] for name in names.split(",") if name.strip()]
    before = {number: signals.displace(number, handler) for number in numbers}
    try:
        with woken_by_signals():
            yield
    finally:
        for number, earlier in before.items():
            signals.put_back(number, earlier)


def heard_while_logging(kind: type[Exception]) -> contextlib.AbstractContextManager[None]:
    """Let a signal's exception through that comes while a line is logged: for logging it is the handler's error.

    Args:
        kind: its class.
    """

    def change() -> Callable[..., None]:
        before = logging.Handler.handleError

        def handle_error(handler: logging.Handler, record: logging.LogRecord) -> None:
            if isinstance(sys.exc_info()[1], kind):
                raise  # `handleError` is called in an except clause: this raises the exception of the signal again
            before(handler, record)

        logging.Handler.handleError = handle_error  # type: ignore[method-assign, assignment]
        return before

    def restore(before: Callable[..., None]) -> None:
        logging.Handler.handleError = before  # type: ignore[method-assign]

    return shared_change("logging", change, restore)


@contextlib.contextmanager
def woken_by_signals() -> Iterator[None]:
    """Have a signal end the main thread's waits for events, where its Python handler runs.

    The kernel may give a signal to any thread, torch's own too, and does so when the process was stopped: the main one
    would sleep on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    readable, written = socket.socketpair()
    with readable, written:
        for end in (readable, written):
            end.setblocking(False)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        wakeups.append(readable)
        _written.append(written)
        try:
            yield
        finally:
            if readable in wakeups:  # not in a fork
                wakeups.remove(readable)
                _written.remove(written)
                signal.set_wakeup_fd(before)


def _forget_wakeups() -> None:
    """Close, in a fork, the sockets by which signals wake the process of which this is a fork."""
    if wakeups:
        signal.set_wakeup_fd(-1)
        for end in (*wakeups, *_written):
            end.close()
        wakeups.clear()
        _written.clear()


os.register_at_fork(after_in_child=_forget_wakeups)
