"""Signs of life while the launcher's main thread does something else; what else comes meanwhile waits for it."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from elastic_hydra import timeouts
from elastic_hydra.hosts.link import Link
from elastic_hydra.hosts.signs_of_life import Lease
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import Ended
from elastic_hydra.supervisor.protocol import Load, Message, Open, Ping, Started
from elastic_hydra.supervisor.waiting import ready

SILENCE = 8.0


class Wire:
    """A way to a host process that the test is."""

    name = "wire"

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self._theirs = theirs
        self.stream = Stream(theirs.fileno(), theirs.fileno())
        self.written: list[str] = []

    def open(self) -> socket.socket:
        return self.ours

    def fileno(self) -> int:
        return -1

    def lines(self) -> list[str]:
        lines, self.written = self.written, []
        return lines

    def ended(self) -> Ended | None:
        return None

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        self._theirs.close()

    def heard(self) -> list[Message]:
        """Return what has come from the launcher."""
        messages = []
        if self.stream.fill():
            while (message := self.stream.take()) is not None:
                messages.append(message)
        return messages


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def link(wire: Wire) -> Iterator[Link]:
    link = Link(wire, SILENCE)
    with closing(link):
        link.greet(Open("/", {}, Load.__new__(Load), b"", SILENCE, 1.0, ""), 0.0)
        wire.heard()
        yield link


def has_news(link: Link) -> bool:
    return bool(ready([event for event in link.events() if event[1] == select.POLLIN], 0.0))


def test_another_thread_speaks_only_in_place_of_one_that_is_away(link: Link, wire: Wire) -> None:
    link.read()
    link.keep_alive(link.used_at + 0.1)
    assert wire.heard() == []
    link.keep_alive(link.used_at + link.pings.patience + 0.1)
    assert [type(message) for message in wire.heard()] == [Ping]


def test_a_lease_lasts_as_long_as_the_launcher_is_away_but_not_for_ever(
    link: Link, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "LAUNCHER_AWAY", 50.0)
    link.read()
    lease, end = Lease(SILENCE, link.used_at), link.used_at + 100.0
    now = link.used_at
    while now < end and now < lease.end:
        link.keep_alive(now)
        for message in wire.heard():
            assert isinstance(message, Ping)
            wire.stream.send(lease.answer(message, now, now))
        link.keep_alive(now)
        now += 0.25
    assert 50.0 < lease.end - link.used_at <= 50.0 + SILENCE


def test_what_another_thread_has_read_wakes_the_main_thread_and_is_there_in_order(link: Link, wire: Wire) -> None:
    link.read()
    wire.stream.send(Started(1, 11))
    link.keep_alive(away := link.used_at + link.pings.patience + 0.1)
    wire.stream.send(Started(2, 12))
    link.keep_alive(away)
    assert has_news(link)
    assert link.read()
    assert [link.take(), link.take(), link.take()] == [Started(1, 11), Started(2, 12), None]
    assert not has_news(link)


def test_the_last_of_the_lines_that_nobody_takes_are_kept(link: Link, wire: Wire) -> None:
    link.read()
    for number in range(30):
        wire.written = [f"{number} {line}" for line in range(1000)]
        link.keep_alive(link.used_at + link.pings.patience + 0.1)
    lines = link.lines()
    assert lines[0] == "[20000 lines of wire are left out, which nobody could take]"
    assert (lines[1], lines[-1], len(lines)) == ("20 0", "29 999", 10_001)
    assert link.lines() == []
