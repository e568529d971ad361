"""What a process that the warm server has forked does before, and after, the code that it was started for."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from elastic_hydra.numa import bind

if TYPE_CHECKING:
    from elastic_hydra.numa.binding import Binding

__all__ = ["EXIT_CANNOT_START", "ProcessSpec", "become", "current_umask", "detach", "die_with_parent", "end"]

EXIT_CANNOT_START = 127
"""Exit code of a process that could not be set up; what was wrong is on its standard error, as with a shell."""

_PR_SET_PDEATHSIG = 1


@dataclass
class ProcessSpec:
    """A process to start."""

    argv: list[str] | None
    """The program to execute; None runs the function in the payload instead."""
    environment: dict[str, str]
    """All of its environment."""
    cwd: str
    umask: int = 0o022
    stdout: str = ""
    """File for standard output, made anew; empty: the server's own."""
    stderr: str = ""
    """File for standard error, likewise."""
    cpus: frozenset[int] | None = None
    """CPUs that it, and what it starts, may run on; None: those of the server."""
    binding: Binding | None = None
    """What it is bound to among those CPUs."""
    speaks: bool = False
    """Whether it is the one of its group that says on standard error what none of them could have of its binding."""
    agent: bool = False
    """Whether it gets a connection to the server, to start processes of its own."""


def detach(server_pid: int) -> None:
    """Make this freshly forked process one of its own, whatever it is going to be.

    Args:
        server_pid: the parent; the process dies with it.
    """
    os.setsid()  # a group of its own: signals of the terminal stay with the launcher, ours reach all of the group
    die_with_parent(server_pid)
    _reset_signals()


def become(spec: ProcessSpec, inheritable: tuple[int, ...]) -> None:
    """Turn this detached process into the one that `spec` describes; does not return when it executes a program.

    Args:
        spec: the process.
        inheritable: file descriptors that an executed program finds, as its last arguments.
    """
    os.chdir(spec.cwd)
    os.umask(spec.umask)
    if spec.cpus is not None and sys.platform == "linux":
        os.sched_setaffinity(0, spec.cpus)
    for path, fd in ((spec.stdout, 1), (spec.stderr, 2)):
        if path:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
            os.dup2(file, fd)
            os.close(file)
    if spec.binding is not None:
        _bind(spec.binding, spec.speaks)
    if spec.argv is not None:
        for fd in inheritable:
            os.set_inheritable(fd, True)
        argv = [*spec.argv, *map(str, inheritable)]
        os.execvpe(argv[0], argv, spec.environment)
    os.environ.clear()
    os.environ.update(spec.environment)
    _fresh_interpreter_state()


def current_umask() -> int:
    """Return the umask of this process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens (Linux only).

    Args:
        parent: the parent's process id, to notice that it has died before this call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_CANNOT_START)


def _bind(binding: Binding, speaks: bool) -> None:
    """Bind this process before anything of the user's runs in it; an executed program inherits all of it."""
    applied = bind.apply(binding)
    for problem in applied.problems if speaks else applied.cpu_problems:
        os.write(2, f"hydra.launcher.numa: {problem}\n".encode())


def fork() -> int:
    """Fork, without Python 3.12's warning that there are threads: who calls this has looked what threads they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # As in a new interpreter: SIGPIPE and SIGXFSZ raise OSError instead of killing.
        ignored = {signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)}
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _fresh_interpreter_state() -> None:
    """Undo what a fork inherits and a new interpreter would not have."""
    atexit._clear()
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import process, util

        util._finalizer_registry.clear()  # type: ignore[attr-defined]
        process._children.clear()  # type: ignore[attr-defined]
    # The parent's objects may be a notebook's or a test runner's; these write where this process's output goes.
    sys.stdout = sys.__stdout__ = _text_stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2)  # type: ignore[misc]
    _reseed()


def _text_stream(fd: int) -> io.TextIOWrapper:
    errors = "backslashreplace" if fd == 2 else "strict"
    raw = io.FileIO(fd, "wb", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=True, write_through=True)


def _reseed() -> None:
    """Give each process random numbers of its own: forked ones would all draw the same."""
    random.seed()
    if (numpy_random := sys.modules.get("numpy.random")) is not None:  # `numpy.random` would import it, 16 ms long
        numpy_random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        torch.default_generator.seed()


def end(code: int) -> NoReturn:
    """End this process as the interpreter would, without the half second that taking down torch costs."""
    # A failed worker does not wait for its threads: they may wait for something that will never come.
    steps: list[Callable[[], Any]] = [threading._shutdown] if code == 0 else []  # type: ignore[attr-defined]
    steps.append(atexit._run_exitfuncs)
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import util

        steps.append(util._exit_function)  # type: ignore[attr-defined]
    steps += [sys.stdout.flush, sys.stderr.flush]
    for step in steps:
        with _reported_errors():
            step()
    os._exit(code)


@contextlib.contextmanager
def _reported_errors() -> Iterator[None]:
    """Report errors as the interpreter does at its end: they change nothing any more."""
    try:
        yield
    except BaseException:
        sys.excepthook(*sys.exc_info())


def freeze() -> None:
    """Keep the garbage collector of forked processes from touching, and so copying, the pages they share."""
    gc.freeze()
