"""Keeps a launcher's record in a sweep's directory alive, and ends the launcher when it cannot.

::

    launcher ──── its standard input ────▶ keeper ── every quarter of the lease ──▶ journal.owner
       ▲                                     │
       └────────── SIGKILL, when the record is another launcher's by now, or, in a batch system, when it could not be
                   renewed for the length of the lease

It is a process of its own, and a thread of it renews: a file system that is out of reach holds up whoever uses it, for
hours. When the launcher has ended, however it has, the keeper stays until nobody holds the journal's lock.

What must never happen: that a launcher in a batch system whose record has run out still runs when another one begins.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from elastic_hydra import timeouts
from elastic_hydra.journal import lock, owner

__all__ = ["ENDED", "main"]

ENDED = b"ended"
"""What a launcher says of which nothing runs any more."""


class _Renewal(threading.Thread):
    """Renews the record again and again."""

    def __init__(self, journal: Path, owner_id: str, interval: float) -> None:
        super().__init__(daemon=True)
        self._journal, self._id, self._interval = journal, owner_id, interval
        self.last = timeouts.now()
        """When the last renewal that has succeeded was begun."""
        self.lost_to: owner.Owner | None = None
        """Who has taken the directory over."""

    def run(self) -> None:
        """Renew until this process ends."""
        while self.lost_to is None:
            time.sleep(self._interval)
            begun = timeouts.now()
            try:
                found = owner.owner_of(self._journal)
                if found is not None and found.id == self._id:
                    owner.write(self._journal, replace(found, renewals=found.renewals + 1))
                    self.last = begun
                elif found is not None:
                    self.lost_to = found
            except OSError:
                pass


def main(argv: list[str]) -> None:
    """Keep the record of the launcher that has started this process.

    Args:
        argv: the journal, the record's id, the length of the lease in seconds, and for how long the launcher may live
            while the record cannot be renewed.
    """
    journal, owner_id, lease, patience = Path(argv[0]), argv[1], float(argv[2]), float(argv[3])
    launcher = os.getppid()
    renewal = _Renewal(journal, owner_id, lease / 4)
    renewal.start()
    while not select.select([sys.stdin], [], [], lease / 16)[0]:
        if (why := _end_of_lease(renewal, patience)) and os.getppid() == launcher:
            print(f"{why}: this launcher is killed, since another one may begin", file=sys.stderr, flush=True)
            os.kill(launcher, signal.SIGKILL)
            os._exit(1)
    if os.read(sys.stdin.fileno(), len(ENDED)) != ENDED:
        while lock.is_held(journal):  # workers of a launcher that was killed still end
            if _end_of_lease(renewal, patience):
                os._exit(1)
            time.sleep(0.05)
    owner.remove(journal, owner_id)
    os._exit(0)  # the thread may be held up


def _end_of_lease(renewal: _Renewal, patience: float) -> str:
    """Say why the lease is over; empty: it is not."""
    if renewal.lost_to is not None:
        return f"{renewal.lost_to} has taken the sweep's directory over"
    silent = timeouts.now() - renewal.last
    return f"the sweep's directory was out of reach for {silent:.0f} s" if silent > patience else ""
