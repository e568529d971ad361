"""What a worker does besides its work when somebody debugs its job: it waits, or opens a debugger."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from elastic_hydra.compat.process_groups import have_them_wait
from elastic_hydra.supervisor.foreground import in_foreground
from elastic_hydra.supervisor.users_frames import users_part

__all__ = ["Debug", "call_debugged"]

__tracebackhide__ = True

_MODES = {0: "r", 1: "w", 2: "w"}
"""Of the standard streams, by file descriptor."""
_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Debug:
    """Who has the terminal."""

    rank: int | None
    """The rank whose standard streams are those of the launcher; `breakpoint()` means nothing to the others. None: a
    debugger opens where the first rank has failed."""
    terminal: str = ""
    """Where that debugger finds the terminal."""
    foreground: str = ""
    """By which the rank that has the terminal gets Ctrl-C, see `supervisor.foreground`."""


def call_debugged(debug: Debug, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a function in a worker of a job that somebody debugs.

    Args:
        debug: who has the terminal.
        function: what the worker would run else.
        args: its arguments.
    """
    have_them_wait()
    has_terminal = os.environ.get("RANK") == str(debug.rank)
    if not has_terminal:
        # Without a terminal, a debugger would end the rank. It goes on, and waits in the next collective operation.
        import pdb  # noqa: T100  # it takes 20 ms, and only workers that are debugged need it

        sys.breakpointhook = pdb.set_trace = _pass_by
    try:
        with in_foreground(debug.foreground if has_terminal else ""):
            return function(*args)
    except Exception as error:
        if debug.terminal:
            _post_mortem(error, debug)
        raise


def _pass_by(*_: Any, **__: Any) -> None:
    pass


def _post_mortem(error: Exception, debug: Debug) -> None:
    """Open a debugger where an exception was raised, if this rank is the first that fails; else wait to be stopped."""
    import pdb  # noqa: T100

    if not _is_first():
        signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
        signal.sigwait(_TO_STOP)
        return
    with _on(debug.terminal), in_foreground(debug.foreground):
        print(f"\nrank {os.environ.get('RANK')} raised {type(error).__name__}: {error}")
        pdb.post_mortem(users_part(error.__traceback__))


def _is_first() -> bool:
    """Whether no other rank of this start of the group has failed before; the first one holds a lock until it ends."""
    folder = os.path.dirname(os.path.dirname(os.environ["TORCHELASTIC_ERROR_FILE"]))
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: each rank that fails asks for the terminal
        return True
    return True


@contextlib.contextmanager
def _on(terminal: str) -> Iterator[None]:
    """Have a terminal for standard input and output, one process at a time."""
    opened = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    kept = [(fd, os.dup(fd)) for fd in _MODES]
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)  # jobs that run side by side may have failed as well
        for fd, _ in kept:
            os.dup2(opened, fd)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(fd, mode, closefd=False) for fd, mode in _MODES.items())
        yield
    finally:
        sys.stdout.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
        for fd, copy in kept:
            os.dup2(copy, fd)
            os.close(copy)
        os.close(opened)
