"""The start of a warm server: a fork of this process where that is safe, else a fresh interpreter."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence

from elastic_hydra.supervisor import entry, forked, inherited, passing, pickles, server, wire
from elastic_hydra.supervisor.anonymous_files import file_with
from elastic_hydra.supervisor.client import PAYLOAD, Client, ServerLost
from elastic_hydra.supervisor.fork_safety import fork_hazard
from elastic_hydra.supervisor.main_module import Interpreter
from elastic_hydra.supervisor.passing import HandedDown, Pickled
from elastic_hydra.supervisor.process_limits import with_limit

__all__ = ["open_server"]

_FRESH_ENVIRONMENT = {
    # A server with thread pools could not be forked; its processes set their own thread counts.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Counting GPUs must not create a CUDA context.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}

_making = threading.Lock()
"""Held while a server is made: what another thread forks meanwhile would keep the new server's socket open."""

_connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""This process's ends. A fork that keeps a copy of one hides from its server that this process is done with it."""


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for sock in list(_connections):
        sock.close()
    _connections.clear()


os.register_at_fork(after_in_child=_after_fork)


def open_server(
    start_method: str,
    shared: Mapping[str, object],
    grace: float,
    *,
    preload: Sequence[str] = (),
    keep: Sequence[int] = (),
) -> Client:
    """Get the server that suits a start method: this agent's, or a new one.

    Args:
        start_method: `warm` forks this process where that is safe and starts a fresh interpreter elsewhere; `fork`
            and `forkserver` insist on one of the two; `spawn` needs the server as a supervisor only.
        shared: objects that payloads will refer to; they travel once or, with a fork, not at all.
        grace: seconds between SIGTERM and SIGKILL for what still runs when this process is gone.
        preload: modules that a server in a fresh interpreter imports, so that its processes need not.
        keep: file descriptors that a new server holds until it and all that it has started are gone: locks.

    Raises:
        ServerLost: none could be started.
    """
    if server.connection is not None:
        made = Client(server.connection.dup(), server.shared, "of the sweep", pickles.main_names)
        made.environment = server.environment
    else:
        try:
            made = _new(start_method, shared, preload, keep)
        except OSError as error:
            raise ServerLost(f"no warm server could be started: {with_limit(str(error))}") from error
    try:
        made.set_grace(grace)
    except BaseException:
        made.close()
        raise
    return made


def _new(start_method: str, shared: Mapping[str, object], preload: Sequence[str], keep: Sequence[int]) -> Client:
    if start_method == "forkserver":
        return _fresh(shared, "as start_method=forkserver asks", preload, keep)
    hazard = None if start_method == "fork" else fork_hazard()
    if hazard is None:
        made = _fork(shared)
        hazard = made.refusal()
        if hazard is None:
            return made
    if start_method == "fork":
        raise ServerLost(f"start_method=fork cannot be used here: {hazard}; use warm or spawn")
    return _fresh(shared, f"this process cannot be forked: {hazard}", preload, keep)


def _fork(shared: Mapping[str, object]) -> Client:
    stock = inherited.take_stock()
    with _making:
        ours, theirs = socket.socketpair()
        _connections.add(ours)
        pid = forked.fork()
        if pid != 0:
            theirs.close()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            server.shared = dict(shared)
            server.descends_from_launcher, pickles.main_names = True, pickles.EVERYTHING
            server.become_server(theirs, stock)
        os._exit(1)
    return Client(ours, shared, "forked from this process", pickles.EVERYTHING, fork_pid=pid)


def _fresh(shared: Mapping[str, object], hazard: str, preload: Sequence[str], keep: Sequence[int]) -> Client:
    launcher = Interpreter.like_this(os.getcwd())
    with passing.collected() as (fds, handed_down):
        data = pickles.dumps(dict(shared), main=launcher.names, for_new=True)
    pickled, first = Pickled(data, tuple(fds)), (launcher, handed_down, tuple(preload))
    how = f"from a fresh interpreter ({hazard})"
    made = _fresh_with(shared, pickled, first, True, how, keep)
    refusal = made.refusal()
    if refusal is None:
        return made
    how = f"from a fresh interpreter ({hazard}), each importing the job's modules itself ({refusal})"
    made = _fresh_with(shared, pickled, first, False, how, keep)
    refusal = made.refusal()
    if refusal is not None:
        raise ServerLost(f"no warm server could be started: {refusal}")
    return made


def _fresh_with(
    shared: Mapping[str, object],
    pickled: Pickled,
    first: tuple[Interpreter, HandedDown, tuple[str, ...]],
    early: bool,
    how: str,
    keep: Sequence[int],
) -> Client:
    with _making:
        ours, theirs = socket.socketpair()
        _connections.add(ours)
        popen = subprocess.Popen(
            [*entry.interpreter("elastic_hydra.supervisor.fresh_server"), *map(str, (theirs.fileno(), *keep))],
            pass_fds=[theirs.fileno(), *keep],
            env={**os.environ, **_FRESH_ENVIRONMENT},
            start_new_session=True,
        )
        theirs.close()
    # It may have ended, which is seen next.
    with file_with(pickled.data, PAYLOAD) as fd, contextlib.suppress(ConnectionError):
        wire.send(ours, (*first, early), [fd, *pickled.fds])
    return Client(ours, shared, how, first[0].names, popen=popen)
