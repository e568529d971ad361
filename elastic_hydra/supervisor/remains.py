"""What the server's processes leave running when they end: found among its descendants, and killed.

The kernel gives each orphan to the server, because the server adopts orphans. Three signs say whose one is: its
session, the token in its environment, and, for a process that has changed both, that nobody who is still there can have
started it. What must never happen: a process of another client, which still runs, is killed.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Mapping

import psutil

from elastic_hydra import timeouts
from elastic_hydra.supervisor.children import Child, Connection
from elastic_hydra.supervisor.orphans import children_of, kill, with_descendants

__all__ = ["TOKEN", "kill_all_remains", "kill_remains_of", "kill_unmarked"]

TOKEN = "ELASTIC_HYDRA_TOKEN"
"""Environment variable that marks the descendants of one connection's processes, also those that daemonize."""


def kill_remains_of(client: Connection, children: Mapping[int, Child]) -> None:
    """Kill what a client's processes have left running, whatever session or parent it has moved to.

    Args:
        client: whose processes.
        children: the server's, by process id.
    """
    if children_of(os.getpid()) <= children.keys():
        return  # the server has adopted nobody: the usual case, and cheap to see
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            child = children.get(process.pid)
            if child is not None and child.client is not client:
                continue
            if os.getsid(process.pid) in client.sessions or process.environ().get(TOKEN) == client.token:
                process.kill()
    kill_unmarked(children)


def kill_unmarked(children: Mapping[int, Child]) -> None:
    """Kill orphans that do not show whose they are, once all that may have started them has ended.

    Those are in sessions of their own and have another environment. A process cannot have started one that is older
    than itself: so an orphan is killed when it is older than all that runs.

    Args:
        children: the server's, by process id.
    """
    orphans = children_of(os.getpid()) - children.keys()
    if not orphans:
        return
    running = [child.pid for child in children.values() if child.orders is None]
    oldest = min((time for pid in running if (time := _start_time(pid)) is not None), default=math.inf)
    for pid in orphans:
        if (time := _start_time(pid)) is not None and time < oldest:
            with contextlib.suppress(psutil.Error):
                kill(with_descendants(pid))


def kill_all_remains() -> None:
    """Kill all descendants of a server that has neither clients nor children any more, and wait for their ends.

    Those without a mark, which `kill_unmarked` had to spare while others ran, are among them. They are awaited because
    the remains of a process go to the parent of the server when the server ends.
    """
    remains: Collection[psutil.Process] = psutil.Process().children(recursive=True)
    kill(remains)
    psutil.wait_procs(remains, timeout=timeouts.REMAINS)


def _start_time(pid: int) -> float | None:
    """Return when a process was started, in seconds since the epoch; None: it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
