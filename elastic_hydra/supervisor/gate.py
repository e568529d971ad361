"""Where workers that have finished wait for the others of their node, which may still need what one of them hosts.

A worker reads one byte from a pipe before it ends; the agent writes as many bytes as there are workers. When the agent
dies, the worker dies as well, because the server ends it.
"""

from __future__ import annotations

import contextlib
import os

from elastic_hydra.supervisor import outcome
from elastic_hydra.supervisor.anonymous_files import path_of

__all__ = ["Gate", "wait_at_gate"]

_GATE = "ELASTIC_HYDRA_GATE"
"""Environment variable of a worker: the pipe from which it reads a byte before it ends."""


class Gate:
    """The agent's side: shut until it is opened, once for each worker.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._exit, self._entry = os.pipe2(os.O_CLOEXEC)
        self.is_open = False

    def environment(self) -> dict[str, str]:
        """Return what a worker needs to find it."""
        return {_GATE: path_of(self._exit)}

    def open(self) -> None:
        """Let the workers end, now or whenever they have finished."""
        if not self.is_open:
            os.write(self._entry, b"." * self._workers)
            self.is_open = True

    def close(self) -> None:
        """Take it away, when no worker runs any more."""
        for fd in (self._exit, self._entry):
            os.close(fd)


def wait_at_gate() -> None:
    """Wait in a worker that has handed over its value, if its agent says so."""
    path = os.environ.get(_GATE)
    if path is None:
        return
    # The user's function is over: no exception of a signal's handler, such as KeyboardInterrupt, concerns it any more.
    with contextlib.suppress(BaseException), open(path, "rb", buffering=0) as gate:
        outcome.announce()
        gate.read(1)
