"""A client of the warm server that stops in the middle of a message, or reads no replies: the others go on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from elastic_hydra import timeouts
from elastic_hydra.supervisor.channel import send
from elastic_hydra.supervisor.client import Client, Process
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.orphans import children_of
from elastic_hydra.supervisor.protocol import Clean, Preload, encode
from tests.helpers.launching import wait_until_gone

pytestmark = pytest.mark.system

FRAME = encode(Preload(("a" * 1_000_000,)))
"""A message that is longer than what a socket holds."""


def spec(**settings: Any) -> ProcessSpec:
    return ProcessSpec(None, dict(os.environ), os.getcwd(), **settings)


@contextlib.contextmanager
def server_with_agent(function: Callable[..., Any]) -> Iterator[tuple[Client, Process, int]]:
    """Have a server, and an agent that calls `function` with the descriptor into which it says how far it is."""
    with open_server("warm", {}, 5.0) as server:
        readable, written = os.pipe2(os.O_CLOEXEC)
        try:
            agent = server.start(spec(agent=True), (function, (f"/proc/{os.getpid()}/fd/{written}",)))
            yield server, agent, readable
        finally:
            os.close(readable)
            os.close(written)


def say(path: str, word: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, word)
    os.close(fd)


def others_go_on(server: Client) -> bool:
    process = server.start(spec(), (os.getpid, ()))
    ended = server.wait(lambda: process.exitcode is not None, 60.0)
    outcome = process.outcome()
    return ended and outcome is not None and outcome.value == process.pid


def stop_in_a_message(path: str, begun: int) -> None:
    with open_server("warm", {}, 5.0) as client:
        client.sock.sendall(FRAME[:begun])
        say(path, b".")
        os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("begun", [1, 4, 1000])
def test_a_client_that_stops_in_the_middle_of_a_message_stops_no_other(begun: int) -> None:
    def stop(path: str) -> None:
        stop_in_a_message(path, begun)

    with server_with_agent(stop) as (server, agent, readable):
        assert os.read(readable, 1) == b"."
        assert others_go_on(server)
        assert server.stop([agent], signal.SIGTERM, 30.0) == []


def ask_and_never_read(path: str) -> int:
    """Ask for replies until the server takes this client for lost; return what it has started until then."""
    with open_server("warm", {}, 5.0) as client:
        child = client.start(spec(), (signal.pause, ()))
        client.wait(lambda: child.pid is not None)
        assert child.pid is not None
        say(path, b".")
        with contextlib.suppress(ConnectionError):
            while True:
                send(client.sock, Clean())
        return child.pid


def test_a_client_that_never_reads_its_replies_is_dropped_and_stops_no_other() -> None:
    with server_with_agent(ask_and_never_read) as (server, agent, readable):
        assert os.read(readable, 1) == b"."
        assert others_go_on(server)
        assert server.wait(lambda: agent.exitcode is not None, 120.0)
        outcome = agent.outcome()
        assert outcome is not None
        assert wait_until_gone([outcome.value], 30.0) == [], "what it has started ends with its connection"


def talk_nonsense(path: str) -> None:
    with open_server("warm", {}, 5.0) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.sock.recv(1) == b"", "the server has closed the connection"


def test_a_client_that_speaks_something_else_is_dropped() -> None:
    with server_with_agent(talk_nonsense) as (server, agent, _):
        assert server.wait(lambda: agent.exitcode is not None, 60.0)
        assert agent.exitcode == 0
        assert others_go_on(server)


def test_a_new_process_that_is_stopped_before_it_has_read_its_orders_stops_no_other() -> None:
    with open_server("warm", {}, 5.0) as server:
        server.prepare(1)
        server.clean()  # answered after what was asked before
        assert server.process is not None
        (spare,) = children_of(server.process.pid)
        os.kill(spare, signal.SIGSTOP)
        long = spec()
        long.environment["LONG"] = "a" * 1_000_000
        stopped = server.start(long, (os.getenv, ("LONG",)))
        assert others_go_on(server)
        server.signal([stopped], signal.SIGCONT)
        assert server.wait(lambda: stopped.exitcode is not None, 60.0)
        outcome = stopped.outcome()
        assert outcome is not None
        assert outcome.value == long.environment["LONG"]


def stop_when_it_should_speak(path: str) -> None:
    with open_server("warm", {}, 5.0) as client:
        children = [client.start(spec(), (signal.pause, ())) for _ in range(2)]
        client.wait(lambda: all(child.pid is not None for child in children))
        client.renew(time.monotonic() + 600.0)
        client.renew(time.monotonic() + 0.1)
        say(path, " ".join(str(child.pid) for child in children).encode())
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_client_that_does_not_say_in_time_that_it_works_is_dropped_with_all_that_it_has_started() -> None:
    with server_with_agent(stop_when_it_should_speak) as (server, agent, readable):
        pids = [int(word) for word in os.read(readable, 100).split()]
        assert wait_until_gone(pids, 120.0) == []
        assert agent.exitcode is None
        assert others_go_on(server)
        assert server.stop([agent], signal.SIGTERM, 30.0) == []


def hear_nothing(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(path, b".")
    while True:
        signal.pause()


def be_stuck(path: str) -> None:
    with open_server("warm", {}, 600.0) as client:
        client.start(spec(), (hear_nothing, (path,)))
        hear_nothing(path)


def test_an_agent_that_is_stuck_takes_no_more_time_than_its_own_for_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeouts, "SERVER_MARGIN", 120.0)
    with server_with_agent(be_stuck) as (server, _, readable):
        heard = b""
        while len(heard) < 2:
            heard += os.read(readable, 2)
        server.set_shutdown_timeout(0.1)
    assert not server.lost, "it has ended all by itself, in time"
