"""Signs of life for hosts while the launcher does something else: a sweeper computes, or standard output is full.

The launcher's main thread exchanges signs of life whenever it waits. Where it does something else for long, a thread
does that in its place, and does nothing besides: what else comes is kept for the main thread. A launcher that was
killed has no thread; one that is stopped (Ctrl-Z) has none that runs; and one that is stuck loses its hosts after
`timeouts.LAUNCHER_AWAY`. Code that keeps Python's global lock for longer than `silence` holds up this thread, too.

A process with a thread must not be forked into a warm server. Nor is it: a sweep has its server on this host, or hosts.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence

from elastic_hydra.hosts.bell import Bell
from elastic_hydra.hosts.link import Link
from elastic_hydra.supervisor.waiting import ready

__all__ = ["KeepAlive"]

_LOOKS_PER_SILENCE = 16


class KeepAlive:
    """A thread that looks after hosts, from the creation of this object until `close`.

    Args:
        links: returns those to the hosts that are there.
        silence: seconds after which a host without a sign of life ends what it runs.
    """

    def __init__(self, links: Callable[[], Sequence[Link]], silence: float) -> None:
        self._links = links
        self._interval = silence / _LOOKS_PER_SILENCE
        self._end = Bell()
        self._thread = threading.Thread(target=self._run, name="elastic_hydra signs of life", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        found: set[int] = set()
        while self._end.fileno() not in found:
            now = time.monotonic()
            alone = [link for link in self._links() if link.is_left_alone(now)]
            for link in alone:
                link.keep_alive(now)
            events = [event for link in alone for event in link.waits_for()]
            found = ready([(self._end.fileno(), select.POLLIN), *events], self._interval)

    def close(self) -> None:
        """End the thread. Further calls change nothing."""
        if self._thread.is_alive():
            self._end.ring()
            self._thread.join()
            self._end.close()
