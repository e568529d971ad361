"""Ctrl-C and Ctrl-Z on a terminal that a debugged worker has: for the debugger, as in any program in the foreground.

The kernel sends the signals to the launcher, whose terminal it is: workers are in sessions of their own. The launcher
hands them on to the worker that holds a lock on a file of the launcher's. The kernel says which process that is, and
frees the lock when the process ends; so no other process that has got its id can be hit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from elastic_hydra.supervisor import signals, standard_input
from elastic_hydra.supervisor.anonymous_files import anonymous_file, path_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Foreground", "in_foreground"]

_LOCK = struct.Struct("hhqqi4x")
"""Linux's `struct flock`: type, whence, start, length, and the process that holds the lock."""


class Foreground:
    """While entered, in a launcher, Ctrl-C goes to the worker that is in the foreground, if there is one.

    Ctrl-Z stops both: a worker that goes on would read the terminal beside the shell.

    Afterwards the terminal is as it was: a debugger whose process is killed leaves one that shows no input.
    """

    def __init__(self) -> None:
        self._file = -1
        self._otherwise: Any = None
        """What handles Ctrl-C while no worker is in the foreground."""
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.suppress(termios.error):  # standard input is no terminal
            self._undo.callback(_restore, termios.tcgetattr(0))
        self._file = anonymous_file("elastic-hydra-foreground")
        self._undo.callback(os.close, self._file)
        if threading.current_thread() is threading.main_thread():
            self._otherwise = signals.displace(signal.SIGINT, self._handle)
            self._undo.callback(signals.put_back, signal.SIGINT, self._otherwise)
            if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
                before = signals.displace(signal.SIGTSTP, self._stop)
                self._undo.callback(signals.put_back, signal.SIGTSTP, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def path(self) -> str:
        """What workers need for `in_foreground`."""
        return path_of(self._file)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if (pid := _holder(self._file)) is not None:
            os.kill(pid, number)
        elif callable(self._otherwise):
            self._otherwise(number, frame)

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._signal_holder(signal.SIGSTOP)
        signals.suspend()
        self._signal_holder(signal.SIGCONT)

    def _signal_holder(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            if (pid := _holder(self._file)) is not None:
                os.kill(pid, number)


def _restore(attributes: list[Any]) -> None:
    with contextlib.suppress(termios.error):  # it is gone
        if standard_input.is_ours():
            termios.tcsetattr(0, termios.TCSADRAIN, attributes)


def _holder(file: int) -> int | None:
    """Return the process that holds the lock of a file."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return pid if kind != fcntl.F_UNLCK else None


@contextlib.contextmanager
def in_foreground(path: str) -> Iterator[None]:
    """Have this worker get Ctrl-C from the launcher's terminal.

    Args:
        path: from the launcher; empty: it stays as it is.
    """
    if not path:
        yield
        return
    file = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
