"""A warm server in a fresh interpreter, for launchers that cannot be forked."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from elastic_hydra.supervisor import (
    entry,
    fork_safety,
    inherited,
    main_module,
    passing,
    pickles,
    server,
    standard_input,
    wire,
)
from elastic_hydra.supervisor.anonymous_files import take_content
from elastic_hydra.supervisor.main_module import Interpreter

__all__ = ["main"]


class _LoadedLate(dict[str, object]):
    """Shared objects whose import is not safe to fork: each process loads them for itself, when it needs one."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, name: str) -> object:
        self.update(pickles.loads(self._data))
        return self[name]


def _preload(names: Sequence[str], data: bytes, launcher: Interpreter, early: bool) -> str | None:
    """Import what agents and workers need, `__main__` among it, and load the shared objects, unless that is unsafe."""
    for name in names:
        importlib.import_module(name)
    if not early:
        main_module.late = launcher
        server.shared = _LoadedLate(data)
        return None
    try:
        launcher.execute_main()
        server.shared = pickles.loads(data)
    except Exception as error:
        return f"loading the job's modules fails: {type(error).__name__}: {error}"
    return fork_safety.fork_hazard()


def main(argv: list[str]) -> NoReturn:
    """Serve the client whose socket is file descriptor `argv[0]`, which first sends what to load.

    The other file descriptors are only kept until this process ends.
    """
    standard_input.keep()
    for fd in map(int, argv):
        os.set_inheritable(fd, False)
    sock = socket.socket(fileno=int(argv[0]))
    received = wire.receive(sock)
    if received is None:
        os._exit(0)
    (launcher, handed_down, preload, early), (data_fd, *passing.received) = received
    launcher.adopt()
    handed_down.adopt()
    entry.single_threaded_server = True
    refused = _preload(preload, take_content(data_fd), launcher, early)
    server.become_server(sock, inherited.take_stock(), refused)
