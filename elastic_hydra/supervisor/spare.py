"""A process that the warm server has forked ahead: it waits for its orders, and then is what they say.

It dies with the server, and ends when the server closes its socket without having sent anything. What must never
happen: an exception that leaves this module. It would unwind into the server's own loop, of which the fork has a copy.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import NoReturn

from elastic_hydra.numa.bind import BindError
from elastic_hydra.supervisor import context, entry, forked, outcome
from elastic_hydra.supervisor.anonymous_files import take_content
from elastic_hydra.supervisor.channel import receive
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.packed_error import pack
from elastic_hydra.supervisor.protocol import Become

__all__ = ["exit_if_it_fails", "wait_for_orders"]


def wait_for_orders(sock: socket.socket, server_pid: int) -> NoReturn:
    """Wait, in a process that was just forked, for what it shall be, and be that to the end.

    Args:
        sock: where the server says it.
        server_pid: the server's process id.
    """
    with exit_if_it_fails():
        forked.detach(server_pid)
        with sock:
            try:
                orders, files = receive(sock)
            except EOFError:
                os._exit(forked.EXIT_CANNOT_START)
        assert isinstance(orders, Become)
    _become(orders.spec, files)


def _become(spec: ProcessSpec, files: list[int]) -> NoReturn:
    with exit_if_it_fails(files):
        forked.become(spec, tuple(files))  # a program is executed here: what follows is for functions only
        payload_fd, result_fd, *others = files
        payload = take_content(payload_fd)
        if spec.agent:
            context.change(role=Role.agent, connection=socket.socket(fileno=others[0]))
        else:
            context.change(role=Role.worker)
    entry.run(payload, context.current().shared, result_fd)  # it reports by itself whatever goes wrong in there


@contextlib.contextmanager
def exit_if_it_fails(files: list[int] | None = None) -> Iterator[None]:
    """End a forked process that cannot be set up, after it has said why.

    Args:
        files: of its orders, when it has got them.
    """
    try:
        yield
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        if isinstance(error, BindError) and files:
            outcome.write(files[1], outcome.Outcome(error=pack(error)))
        os._exit(forked.EXIT_CANNOT_START)
