"""How the agents of one round come to the same verdict on a failure, and to the same count of restarts.

The keys are in the store of the round, which all agents of the round reach. The first agent that raises the counter
beside the verdict writes the verdict; the others wait for it. No agent may ever follow a verdict of its own that lost.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from datetime import timedelta

from torch.distributed import Store

from elastic_hydra import timeouts
from elastic_hydra.failures.classify import Failure
from elastic_hydra.failures.policy import Decision
from elastic_hydra.failures.verdict import Verdict

__all__ = ["FailureConsensus"]

_VERDICT = "elastic_hydra/verdict"
_HISTORY = "elastic_hydra/history/{}"
_READERS = "elastic_hydra/readers"
_PATIENCE = timedelta(seconds=timeouts.CONSENSUS)


class FailureConsensus:
    """The one verdict of a round: the first that a node publishes stands for all nodes.

    Args:
        store: the round's.
        rank: of this node.
        size: number of nodes.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._size = size

    def common_history(self, own: Sequence[float]) -> list[float]:
        """Tell all nodes when the job was restarted so far: one that has just come does not know.

        Args:
            own: what this node knows, in seconds on its monotonic clock.

        Returns:
            what the node knows that has seen most, on the clock of this one.
        """
        now = time.monotonic()  # no two nodes have the same clock: they tell each other how long ago it was
        self._store.set(_HISTORY.format(self._rank), json.dumps([now - moment for moment in own]))
        keys = [_HISTORY.format(rank) for rank in range(self._size)]
        self._store.wait(keys, _PATIENCE)
        known: list[list[float]] = [json.loads(self._store.get(key)) for key in keys]
        return [now - ago for ago in max(known, key=len)]

    def read(self) -> Verdict | None:
        """Return the verdict, if there is one."""
        return self._parsed() if self._store.check([_VERDICT]) else None

    def propose(self, proposed: Verdict) -> Verdict:
        """Publish a verdict, unless another node was first.

        Returns:
            the one that stands.
        """
        if self._publish(proposed):
            return proposed
        self._store.wait([_VERDICT], _PATIENCE)
        return self._parsed()

    def publish_and_leave(self, proposed: Verdict) -> None:
        """Publish a verdict, unless another node was first; this node ends, and waits for no other."""
        self._publish(proposed)
        self._store.add(_READERS, 1)

    def _publish(self, proposed: Verdict) -> bool:
        if self._store.add(f"{_VERDICT}/count", 1) > 1:
            return False
        values = dataclasses.asdict(proposed) | {"failure": proposed.failure.as_dict()}
        self._store.set(_VERDICT, json.dumps(values))
        return True

    def wait_until_read(self) -> None:
        """Stay until all nodes have read the verdict: the store may end with this node."""
        deadline = time.monotonic() + timeouts.FAREWELL
        count = self._store.add(_READERS, 1)
        while count < self._size and time.monotonic() < deadline:
            time.sleep(0.02)
            count = self._store.add(_READERS, 0)

    def _parsed(self) -> Verdict:
        values = json.loads(self._store.get(_VERDICT))
        return Verdict(Failure.from_dict(values["failure"]), Decision(**values["decision"]), values["time"])
