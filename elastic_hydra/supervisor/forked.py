"""What a process that the warm server has forked does before, and after, the code that it was started for."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    os.setsid()  # a group of its own: signals of the terminal stay with the launcher, ours reach all of the group
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
        atexit._clear()  # they are the workers'
        streams.renew()
    else:
        streams.take_over()
        signals.restore()
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util._run_after_forkers()  # queues and the like start without what a thread of the parent has done for them
    seeds.apply(inherited.stock.seeds)


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


def freeze(stock: inherited.Stock) -> None:
    """Make what this process has the parent's in all its forks, and keep the collector from touching it there.

    Args:
        stock: what there is; looking through it here, in a fork, would copy all of its memory.
    """
    inherited.adopt(stock)
    thread_pools.look()
    gc.freeze()
