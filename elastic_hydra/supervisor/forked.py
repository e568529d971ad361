"""What a process that the warm server has forked does before the code that it was started for.

The process is in a session of its own, so that no signal of the launcher's terminal reaches it. It dies with the
server: the kernel kills it. What must never happen: that the user's code runs in surroundings other than those that
`ProcessSpec` says; so what fails here ends the process, with the exit code `EXIT_CANNOT_START`. (A binding that the
kernel grants in part is said on standard error.)
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elastic_hydra.compat import cpython
from elastic_hydra.numa import bind
from elastic_hydra.supervisor import inherited, seeds, signals, standard_input, streams, thread_pools

if TYPE_CHECKING:
    from elastic_hydra.numa.binding import Binding

__all__ = ["EXIT_CANNOT_START", "ProcessSpec", "become", "current_umask", "detach", "die_with_parent"]

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
    stdin: bool = False
    """Whether it has the launcher's standard input; else it has none."""
    agent: bool = False
    """Whether it gets a connection to the server, to start processes of its own."""


def detach(server_pid: int) -> None:
    """Make this freshly forked process one of its own, whatever it is going to be.

    Args:
        server_pid: the parent; the process dies with it.
    """
    os.setsid()  # signals of the terminal stay with the launcher, and a signal to this group reaches all that is in it
    die_with_parent(server_pid)
    signals.reset()


def become(spec: ProcessSpec, inheritable: tuple[int, ...]) -> None:
    """Turn this detached process into the one that `spec` describes; does not return when it executes a program.

    Args:
        spec: the process.
        inheritable: file descriptors that an executed program finds, as its last arguments.
    """
    standard_input.give(spec.stdin)
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
        signals.forget()
        os.execvpe(argv[0], argv, spec.environment)
    os.environ.clear()
    os.environ.update(spec.environment)
    if spec.agent:
        cpython.forget_exit_functions()  # the app's exit functions run in each of its workers, and an agent is none
        streams.renew()
    else:
        streams.take_over()
        signals.restore()
    cpython.prepare_after_fork()
    seeds.apply(inherited.stock.seeds)


def current_umask() -> int:
    """Return the umask of this process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent dies, however that happens (Linux only).

    Args:
        parent: the parent's process id, to notice that it has died before this call.
        number: of the signal. It stays so in a program that this process executes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_CANNOT_START)


def _bind(binding: Binding, speaks: bool) -> None:
    """Bind this process before anything of the user's runs in it; an executed program inherits all of it."""
    applied = bind.apply(binding)
    for problem in applied.problems if speaks else applied.cpu_problems:
        os.write(2, f"hydra.launcher.numa: {problem}\n".encode())


def fork() -> int:
    """Fork, without Python 3.12's warning that there are threads: the caller has looked which ones there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def freeze(stock: inherited.Stock) -> None:
    """Make what this process has the parent's in all its forks, and keep the collector from touching it there.

    Args:
        stock: from `take_stock` before the fork; to look through all objects in a fork would copy all memory.
    """
    inherited.adopt(stock)
    thread_pools.look()
    gc.freeze()
