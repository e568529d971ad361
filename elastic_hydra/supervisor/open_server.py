"""The start of a warm server: a fork of this process where that is safe, else a fresh interpreter.

::

    launcher ── fork ──────────────── server        nothing is imported or pickled again
    launcher ── exec ── Load ──────── server        `fresh_server` imports what the launcher has imported

The server is a child of the process that calls this, in a session of its own, and ends with the connection, whose end
the launcher has for itself (`own_ends`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace

from elastic_hydra.supervisor import context, entry, forked, inherited, own_ends, passing, pickles, server
from elastic_hydra.supervisor.anonymous_files import file_with
from elastic_hydra.supervisor.channel import send
from elastic_hydra.supervisor.client import PAYLOAD, Client, Listener, ServerLost
from elastic_hydra.supervisor.fork_safety import CannotFork, fork_hazard
from elastic_hydra.supervisor.main_module import Interpreter
from elastic_hydra.supervisor.passing import Pickled
from elastic_hydra.supervisor.process_limits import with_limit
from elastic_hydra.supervisor.protocol import Load
from elastic_hydra.supervisor.server_process import ServerProcess

__all__ = ["open_fresh", "open_server", "what_to_load"]

_FRESH_ENVIRONMENT = {
    # A server with thread pools could not be forked; its processes set their own thread counts.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Counting GPUs must not create a CUDA context.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


def open_server(
    start_method: str,
    shared: Mapping[str, object],
    shutdown_timeout: float,
    *,
    preload: Sequence[str] = (),
    keep: Sequence[int] = (),
) -> Client:
    """Get the server that suits a start method: this agent's, or a new one.

    Args:
        start_method: `warm` forks this process where that is safe and starts a fresh interpreter elsewhere; `fork`
            and `forkserver` insist on one of the two; `spawn` needs the server as a supervisor only.
        shared: objects that payloads will refer to; they travel once or, with a fork, not at all.
        shutdown_timeout: seconds between SIGTERM and SIGKILL for what still runs when this process is gone.
        preload: modules that a server in a fresh interpreter imports, so that its processes need not.
        keep: file descriptors that a new server holds until it and all that it has started are gone: locks.

    Raises:
        ServerLost: none could be started.
    """
    agent = context.current()
    if agent.connection is not None:
        client = Client(agent.connection.dup(), agent.shared, "of the sweep", agent.main_names)
        client.environment = agent.server_environment
    else:
        try:
            client = _new(start_method, shared, preload, keep)
        except OSError as error:
            raise ServerLost(f"no warm server could be started: {with_limit(str(error))}") from error
    try:
        client.set_shutdown_timeout(shutdown_timeout)
    except BaseException:
        client.close()
        raise
    return client


def _new(start_method: str, shared: Mapping[str, object], preload: Sequence[str], keep: Sequence[int]) -> Client:
    if start_method == "forkserver":
        return _fresh(shared, "as start_method=forkserver asks", preload, keep)
    try:
        if start_method != "fork" and (hazard := fork_hazard()) is not None:
            raise CannotFork(hazard)
        return _fork(shared)
    except CannotFork as error:
        reason = str(error)
    if start_method == "fork":
        raise ServerLost(f"start_method=fork cannot be used here: {reason}; use warm or spawn")
    return _fresh(shared, f"this process cannot be forked: {reason}", preload, keep)


def _fork(shared: Mapping[str, object]) -> Client:
    """Fork this process into a server.

    Raises:
        CannotFork: the fork cannot be one.
    """
    stock = inherited.take_stock()
    with own_ends.connected() as (ours, theirs):
        pid = forked.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                os.setsid()
                context.change(shared=dict(shared), descends_from_launcher=True, same_main=True)
                server.become_server(theirs, stock)
            os._exit(1)
    client = Client(ours, shared, "forked from this process", pickles.EVERYTHING, process=ServerProcess(pid))
    client.await_ready()
    return client


def _fresh(shared: Mapping[str, object], hazard: str, preload: Sequence[str], keep: Sequence[int]) -> Client:
    load, pickled = what_to_load(shared, preload)
    return open_fresh(load, pickled, f"from a fresh interpreter ({hazard})", shared=shared, keep=keep)


def what_to_load(
    shared: Mapping[str, object], preload: Sequence[str], *, elsewhere: bool = False
) -> tuple[Load, Pickled]:
    """Return what a server in a fresh interpreter is told, and the pickled shared objects.

    Args:
        shared: as for `open_server`.
        preload: as for `open_server`.
        elsewhere: whether it is on another host, where this one's file descriptors mean nothing.
    """
    launcher = Interpreter.like_this(os.getcwd())
    with passing.collected(elsewhere=elsewhere) as (fds, handed_down):
        data = pickles.dumps(dict(shared), main=launcher.names, for_new=True)
    return Load(launcher, handed_down, tuple(preload), early=True), Pickled(data, tuple(fds))


def open_fresh(
    load: Load,
    pickled: Pickled,
    reason: str,
    *,
    shared: Mapping[str, object],
    keep: Sequence[int] = (),
    listener: Listener | None = None,
) -> Client:
    """Get a server in a fresh interpreter.

    Args:
        load: what it loads.
        pickled: the shared objects.
        reason: how it comes to be, in words.
        shared: the objects themselves, where payloads are pickled here.
        keep: as for `open_server`.
        listener: is served while this process waits for the server, also while it starts.

    Raises:
        ServerLost: it could not be started.
    """
    try:
        return _fresh_with(shared, pickled, load, reason, keep, listener)
    except CannotFork as error:
        reason = f"{reason}, each importing the job's modules itself ({error})"
    try:
        return _fresh_with(shared, pickled, replace(load, early=False), reason, keep, listener)
    except CannotFork as error:
        raise ServerLost(f"no warm server could be started: {error}") from error


def _fresh_with(
    shared: Mapping[str, object],
    pickled: Pickled,
    load: Load,
    reason: str,
    keep: Sequence[int],
    listener: Listener | None,
) -> Client:
    """Start a server in an interpreter of its own.

    Raises:
        CannotFork: it cannot be one.
    """
    with own_ends.connected() as (ours, theirs):
        popen = subprocess.Popen(
            [*entry.interpreter("elastic_hydra.supervisor.fresh_server"), *map(str, (theirs.fileno(), *keep))],
            pass_fds=[theirs.fileno(), *keep],
            env={**os.environ, **_FRESH_ENVIRONMENT},
            start_new_session=True,
        )
    with file_with(pickled.data, PAYLOAD) as fd, contextlib.suppress(ConnectionError):  # it has ended, as is seen next
        send(ours, load, [fd, *pickled.fds])
    process = ServerProcess(popen.pid, popen)
    client = Client(ours, shared, reason, load.launcher.names, process=process, listener=listener)
    client.await_ready()
    return client
