"""What the warm server knows of its clients and of the processes that it has started for them."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
from dataclasses import dataclass, field

from elastic_hydra.supervisor.channel import Channel

__all__ = ["Child", "Connection", "send_signal", "signal_group"]


@dataclass(eq=False)
class Connection:
    """One client, a launcher or an agent, and what it has started."""

    channel: Channel
    token: str
    """Marks, in their environment, the processes that this client has started, with all their descendants."""
    shutdown_timeout: float = 30.0
    """Seconds between SIGTERM and SIGKILL for what still runs when this client is gone."""
    sessions: set[int] = field(default_factory=set)
    """Session ids of everything it has started so far."""
    silent_at: float = math.inf
    """When this client counts as gone, unless it says before that it is not; on the monotonic clock."""
    will: str = ""
    """What to write to standard output when this client is gone."""
    gone: bool = False

    def execute_will(self) -> None:
        """Write what this client, now gone, has left to be written, unless standard output takes nothing now."""
        if not self.will:
            return
        poll = select.poll()
        poll.register(1, select.POLLOUT)
        with contextlib.suppress(OSError):
            if poll.poll(0):
                os.write(1, self.will.encode())


@dataclass(eq=False)
class Child:
    """A process that the server has forked."""

    pid: int
    client: Connection
    """Who has asked for it; its lifetime is that of this connection."""
    orders: Channel | None
    """By which it hears what it shall be; None once that has been sent."""
    id: int | None = None
    """The client's number of it; None as long as it waits for its orders."""
    own: Connection | None = None
    """An agent's connection, by which it starts processes itself."""
    is_program: bool = False
    """Whether it is a program of the user's, and not a function."""
    kill_at: float | None = None
    """When it is killed, on the monotonic clock; None: it was not asked to end."""


def send_signal(child: Child, number: int) -> None:
    """Send a signal to a process; a program may be a shell around the real one, so its group gets it as well.

    Helpers of a function, such as those that load its data, are its own to end: it may need them for a last checkpoint.
    """
    if child.is_program or number in (signal.SIGKILL, signal.SIGCONT):
        signal_group(child.pid, number)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child.pid, number)


def signal_group(leader: int, number: int) -> None:
    """Send a signal to the process group that a process leads, or to it alone while it has just been forked."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(leader, number)
        except ProcessLookupError:
            os.kill(leader, number)  # it has no group of its own yet
