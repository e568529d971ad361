"""What the agents of one round tell each other while their workers run: who is done, who has failed, who is gone.

torch's agents do not talk after the rendezvous. A node whose workers do not notice the end of another one's would wait
for it for ever, and one whose workers do notice cannot tell a lost node from a mistake of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch.distributed import Store
from torch.distributed.elastic.rendezvous import RendezvousConnectionError

__all__ = ["News", "Peers", "connected"]

_NEWS = "elastic_hydra/news"
_FAILED = "elastic_hydra/failed"
_LOST = "elastic_hydra/lost"
_DONE = "elastic_hydra/done"
_PULSE = "elastic_hydra/pulse/{}"


@dataclass(frozen=True)
class News:
    """What has happened on another node."""

    text: str
    failed: bool
    """Whether the job has failed there; else a node is gone."""


class Peers:
    """The other nodes of a round, as one of its agents sees them. Give it back with `close`.

    Each agent has a pulse: a counter in the round's store that a thread of it moves. Node 0 watches all pulses and the
    others watch node 0's, so that the load grows with the nodes and not with their square. Only changes count, seen by
    one's own clock: the nodes' clocks need not agree.

    Args:
        store: the round's.
        rank: of this node.
        size: number of nodes.
        patience: seconds without a pulse after which a node counts as lost.
        interval: seconds between two looks at the store.
    """

    def __init__(self, store: Store, rank: int, size: int, patience: float, interval: float) -> None:
        self._store = store
        self._rank = rank
        self._others = [other for other in range(size) if other != rank]
        self._watched = self._others if rank == 0 else [0]
        self._patience = patience
        self._interval = interval
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="elastic-hydra-pulse", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the pulse: for the others, this node is gone when it does not report something else."""
        self._closed.set()
        self._thread.join()

    def _beat(self) -> None:
        # It must not depend on what the agent does: stopping workers alone may take longer than the others' patience.
        pause = min(1.0, self._patience / 6)
        with contextlib.suppress(Exception):  # a store that is gone is noticed, and reported, by the agent itself
            while not self._closed.is_set():
                self._store.add(_PULSE.format(self._rank), 1)
                self._closed.wait(pause)

    # --- telling --------------------------------------------------------------------------------------------------

    def report_failure(self, text: str) -> None:
        """Tell the others that the job has failed here. The first report of a round stands."""
        self._report(_FAILED, text)

    def report_loss(self, text: str) -> None:
        """Tell the others that a node, which may be this one, takes part no more."""
        self._report(_LOST, text)

    def _report(self, key: str, text: str) -> None:
        with connected():
            if self._store.add(f"{key}/count", 1) == 1:
                self._store.set(key, text)
                self._store.set(_NEWS, "1")

    def report_done(self) -> None:
        """Tell the others that the workers of this node have finished."""
        with connected():
            if self._store.add(f"{_DONE}/count", 1) == len(self._others) + 1:
                self._store.set(_DONE, "1")

    # --- looking --------------------------------------------------------------------------------------------------

    def all_done(self) -> bool:
        """Whether the workers of all nodes have finished."""
        with connected():
            return bool(self._store.check([_DONE]))

    def news(self) -> News | None:
        """Return what has been reported; a silent node is found, and reported, here."""
        now = time.monotonic()
        if now - self._looked < self._interval:
            return None
        self._looked = now
        with connected():
            if not self._store.check([_NEWS]):
                silent = [other for other in self._watched if self._silence(other, now) > self._patience]
                if not silent:
                    return None
                self._report_silence(silent)
            if self._store.check([_FAILED]):
                return News(self._store.get(_FAILED).decode(), failed=True)
            if self._store.check([_LOST]):
                return News(self._store.get(_LOST).decode(), failed=False)
        return None

    def _silence(self, other: int, now: float) -> float:
        """Return the seconds since a node's pulse was last seen to move."""
        pulse = self._pulse(other)
        before, at = self._seen.get(other, (-1, now))
        self._seen[other] = (pulse, at if pulse == before else now)
        return now - self._seen[other][1]

    def _pulse(self, other: int) -> int:
        with connected():
            return int(self._store.add(_PULSE.format(other), 0))

    def loss(self, regrouping: Callable[[], bool]) -> News | None:
        """Find out, in no more than the patience, whether a node is gone; called when workers of this node have failed.

        Args:
            regrouping: whether another node waits for this one to form a new group.

        Returns:
            the news of a loss or of a failure elsewhere; None when all nodes are alive.
        """
        deadline = time.monotonic() + self._patience
        pulses = {other: self._pulse(other) for other in self._others}
        while pulses:
            if (news := self.news()) is not None:
                return news
            if regrouping():
                return News("the other nodes form a new group", failed=False)
            if time.monotonic() > deadline:
                self._report_silence(list(pulses))
                self._looked = 0.0
            time.sleep(self._interval / 2)
            pulses = {other: pulse for other, pulse in pulses.items() if self._pulse(other) == pulse}
        return None

    def _report_silence(self, others: list[int]) -> None:
        named = ", ".join(map(str, others))
        self.report_loss(f"no sign of life from node {named} for {self._patience:g} s")


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Raise `RendezvousConnectionError` for whatever a store raises that is gone."""
    try:
        yield
    except RendezvousConnectionError:
        raise
    except Exception as error:  # each kind of store has its own
        raise RendezvousConnectionError(f"the store where the nodes meet is gone: {error}") from error
