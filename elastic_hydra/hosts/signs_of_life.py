"""How both ends know for how long each may count on the other: pings, answers, and deadlines; it reads no clock.

::

    launcher   ping(heard)    ─────▶   host   its lease ends `silence` after the answer that the launcher has heard last
               heard = awake  ◀─────  pong(awake)

The host's lease begins anew with an answer of its own of which it knows that the launcher has got it. So the launcher
knows when the lease ends, at the latest: `silence` after the last answer that it has got, whatever was lost or delayed
on the way. A message that has been on its way for minutes prolongs nothing.
"""

from __future__ import annotations

import math
from collections import deque

from elastic_hydra.supervisor.protocol import Ping, Pong

__all__ = ["Lease", "Pings"]

_PINGS_PER_SILENCE = 8
_QUICK_SAMPLES = 4
"""So many pings follow one another at once, to learn the difference of the clocks."""
_SAMPLES = 16
"""So many answers are looked at for the difference of the clocks, which drift."""


class Lease:
    """The host's deadline: it ends everything when the lease has ended.

    Args:
        silence: seconds.
        now: the host's clock that goes on while the host is suspended.
    """

    def __init__(self, silence: float, now: float) -> None:
        self._silence = silence
        self._heard = now

    @property
    def end(self) -> float:
        """When it ends."""
        return self._heard + self._silence

    def answer(self, ping: Ping, now: float, monotonic: float) -> Pong:
        """Take a ping in, and return the answer.

        Args:
            ping: it.
            now: as above.
            monotonic: the host's monotonic clock, by which its events have their times.
        """
        self._heard = max(self._heard, ping.heard)
        return Pong(ping.sent, monotonic, now)


class Pings:
    """The launcher's side.

    Args:
        silence: seconds.
        now: the launcher's monotonic clock, as all but the host's answers.
        offset: the host's monotonic clock minus that of the launcher, as far as it is known.
    """

    def __init__(self, silence: float, now: float, offset: float) -> None:
        self._silence = silence
        self._interval = silence / _PINGS_PER_SILENCE
        self._next = now
        self._heard = -math.inf
        self._samples: deque[tuple[float, float]] = deque(maxlen=_SAMPLES)
        """How long the way there and back has taken, and the difference of the clocks by it."""
        self._offset = offset
        self.last_answer = now

    @property
    def offset(self) -> float:
        """The host's monotonic clock minus that of the launcher, in seconds."""
        return min(self._samples)[1] if self._samples else self._offset

    @property
    def silent_at(self) -> float:
        """When the host counts as silent, unless an answer comes."""
        return self.last_answer + self._silence

    @property
    def patience(self) -> float:
        """Seconds without a ping after which somebody else has to send one, long before a lease ends."""
        return 2.0 * self._interval

    @property
    def next_at(self) -> float:
        """When there is something to do: a ping is due, or the host has become silent."""
        return min(self._next, self.silent_at)

    def due(self, now: float) -> Ping | None:
        """Return the ping that is to be sent now, if one is."""
        if now < self._next:
            return None
        self._next = now + self._interval
        return Ping(now, self._heard)

    def hear(self, pong: Pong, now: float) -> None:
        """Take an answer in."""
        self.last_answer = now
        self._heard = max(self._heard, pong.awake)
        if len(self._samples) < _QUICK_SAMPLES:
            self._next = now
        way = now - pong.sent
        self._samples.append((way, pong.now - pong.sent - way / 2.0))
