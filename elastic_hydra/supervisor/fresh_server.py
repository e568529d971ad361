"""A warm server in a fresh interpreter, for launchers that cannot be forked.

The launcher starts the interpreter, sends what it shall load, and waits for the first word: `Ready`, or `CannotServe`
when what was loaded has started threads or used CUDA. Then the launcher starts another one, which loads less: there,
each process loads the app for itself.
"""

from __future__ import annotations

import importlib
import os
import socket
from typing import NoReturn

from elastic_hydra.supervisor import context, inherited, pickles, server, standard_input
from elastic_hydra.supervisor.anonymous_files import take_content
from elastic_hydra.supervisor.channel import receive, send
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.fork_safety import CannotFork, fork_hazard
from elastic_hydra.supervisor.protocol import CannotServe, Load

__all__ = ["main"]


class _LoadedLate(dict[str, object]):
    """Shared objects whose import is not safe to fork: each process loads them for itself, when it needs one."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, name: str) -> object:
        self.update(pickles.loads(self._data))
        return self[name]


def _load(load: Load, data: bytes) -> None:
    """Import what agents and workers need, `__main__` among it, and load the shared objects, unless that is unsafe.

    Raises:
        CannotFork: what was loaded leaves a process that cannot be forked, or cannot be loaded.
    """
    for name in load.modules:
        importlib.import_module(name)
    if not load.early:
        context.change(main_to_execute=load.launcher, shared=_LoadedLate(data))
        return
    try:
        load.launcher.execute_main()
        context.change(shared=pickles.loads(data))
    except Exception as error:
        raise CannotFork(f"loading the job's modules fails: {type(error).__name__}: {error}") from error
    if (hazard := fork_hazard()) is not None:
        raise CannotFork(hazard)


def main(argv: list[str]) -> NoReturn:
    """Serve the client whose socket is file descriptor `argv[0]`, which first sends what to load.

    The other file descriptors are only kept until this process ends.
    """
    standard_input.keep()
    for fd in map(int, argv):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=int(argv[0]))
    try:
        load, (data_fd, *others) = receive(sock)
    except EOFError:
        os._exit(0)
    assert isinstance(load, Load)
    context.change(role=Role.server, received_files=tuple(others), single_threaded_server=True)
    load.launcher.adopt()
    load.handed_down.adopt()
    try:
        _load(load, take_content(data_fd))
    except CannotFork as error:
        send(sock, CannotServe(str(error)))
        os._exit(0)
    server.become_server(sock, inherited.take_stock())
