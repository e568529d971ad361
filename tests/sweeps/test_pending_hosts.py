"""What is written down of hosts that wait in a queue: only what has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from elastic_hydra.hosts.connection import State
from elastic_hydra.hosts.queue import Pending
from elastic_hydra.hosts.transport import Transport
from elastic_hydra.sweeps.pending_hosts import PendingHosts
from elastic_hydra.sweeps.place import Place


@dataclass
class Way:
    """A connection that is coming, and its transport."""

    state: State = State.coming


@dataclass
class Queue:
    """Says what the test wants."""

    answers: list[Sequence[Pending] | None] = field(default_factory=list)

    def look(self, coming: Mapping[str, Transport], now: float) -> Sequence[Pending] | None:
        return self.answers.pop(0) if self.answers else None

    def next_look(self, now: float) -> float | None:
        return now + 1.0

    def close(self) -> None:
        self.answers.clear()


@dataclass
class Engine:
    """An engine with a queue."""

    queue: Queue
    is_elastic = True

    def places(self) -> Sequence[str]:
        return ["job 1", "job 2"]

    def transport(self, place: str) -> Transport:
        raise AssertionError


def places() -> list[Place]:
    return [Place(name, cast("Any", Way()), cast("Any", Way())) for name in ("job 1", "job 2")]


FIRST, SECOND = Pending("job 1", "71", "Priority", 5000.0), Pending("job 2", "72", "Resources")


def test_only_changes_are_written_down(caplog: pytest.LogCaptureFixture) -> None:
    later = Pending("job 1", "71", "Priority", 5030.0)
    much_later = Pending("job 1", "71", "Priority", 5061.0)
    queue = Queue([None, [FIRST, SECOND], None, [later, SECOND], [much_later, SECOND]])
    pending, both = PendingHosts(Engine(queue)), places()
    with caplog.at_level(logging.INFO, "elastic_hydra"):
        events = [pending.look(both, 0.0) for _ in range(5)]
    assert [event is not None for event in events] == [False, True, False, False, True]
    assert events[1] is not None
    assert list(events[1].hosts) == [
        {"job": "71", "reason": "Priority", "starts": 5000.0},
        {"job": "72", "reason": "Resources", "starts": None},
    ]
    assert [record.message for record in caplog.records] == ["2 hosts wait in the queue: Priority (1), Resources (1)"]


def test_a_host_that_has_come_waits_no_more() -> None:
    pending, both = PendingHosts(Engine(Queue([[FIRST, SECOND]]))), places()
    pending.look(both, 0.0)
    assert both[0].connection is not None
    both[0].connection.state = State.opening
    event = pending.look(both, 1.0)
    assert event is not None
    assert [host["job"] for host in event.hosts] == ["72"]
    both[1].transport = both[1].connection = None
    assert pending.reason_of("job 1") == ""
    assert pending.reason_of("job 2") == ", and waits in the queue: Resources"
    event = pending.look(both, 2.0)
    assert event is not None
    assert list(event.hosts) == []
    assert pending.look(both, 3.0) is None


def test_most_engines_have_no_queue() -> None:
    pending = PendingHosts(cast("Any", object()))
    assert pending.look(places(), 0.0) is None
    assert pending.next_look(0.0) is None
    pending.close()
