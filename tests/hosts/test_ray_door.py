"""The port of a Ray driver: who says a token is let in, once; nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from elastic_hydra import timeouts
from elastic_hydra.hosts.ray_door import Door


@contextlib.contextmanager
def caller(door: Door) -> Iterator[socket.socket]:
    with socket.create_connection(door.address) as connection:
        connection.setblocking(False)
        yield connection


async def is_let_out(connection: socket.socket) -> bool:
    """Wait until the door has closed a connection."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 1) == b""
    except ConnectionResetError:
        return True


async def come_with_tokens() -> None:
    door, loop = Door("127.0.0.1"), asyncio.get_running_loop()
    assert door.address[0] == "127.0.0.1"
    with door.expecting() as first, door.expecting() as second:
        assert first.token != second.token
        for said in (b"x" * len(first.token), first.token[:-1] + b"\n" + b"more"):
            with caller(door) as stranger:
                await loop.sock_sendall(stranger, said)
                assert await is_let_out(stranger)
        with caller(door) as actor:
            await loop.sock_sendall(actor, second.token[:10])
            await loop.sock_sendall(actor, second.token[10:] + b"more")
            arrived = await second.arrival
            assert await loop.sock_recv(arrived, 100) == b"more", "what follows the token is for whoever expects it"
            assert not first.arrival.done()
            with caller(door) as again:
                await loop.sock_sendall(again, second.token)
                assert await is_let_out(again)
        with caller(door) as brief:
            brief.shutdown(socket.SHUT_WR)
            assert await is_let_out(brief)
    assert arrived.fileno() == -1, "it is closed"
    with caller(door) as late:
        await loop.sock_sendall(late, first.token)
        assert await is_let_out(late), "nobody expects it any more"


async def say_nothing() -> None:
    door = Door("127.0.0.1")
    with door.expecting(), caller(door) as silent:
        assert await is_let_out(silent)


def test_a_token_is_good_for_one_connection() -> None:
    asyncio.run(come_with_tokens())


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "RAY_TOKEN", 0.05)
    asyncio.run(say_nothing())


AT_THE_END = """
import weakref
from elastic_hydra.hosts import ray

ray.entry.interpreter = lambda module: ["sh", "-c", "cat"]  # it ends with its standard input, as the driver does
driver = ray.Driver("auto")
hosts = ray.Driver("auto")  # stands for what is newer, as the hosts are
weakref.finalize(hosts, lambda: print("hosts end; the driver:", driver.ended()))
driver.ask({}, [])
"""


@pytest.mark.system
def test_the_driver_outlives_the_hosts_when_the_launcher_ends() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("hosts end; the driver: None\n", "")
