"""The port of a Ray driver at which the actors of its hosts arrive: only who says a token is let in, and only once."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
from collections.abc import Iterator
from typing import NamedTuple

from elastic_hydra import timeouts

__all__ = ["Door", "Expected"]

_TOKEN = 32
"""Bytes of a token."""


class Expected(NamedTuple):
    """A connection that an actor is going to make."""

    token: bytes
    """What it says first."""
    arrival: asyncio.Future[socket.socket]
    """The connection, as soon as it is there."""


class Door:
    """Listens as long as the event loop runs in which it was made.

    Args:
        address: of the network over which the actors come; other networks do not reach the port.
    """

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, 0), backlog=128)
        self._listener.setblocking(False)
        self._expected: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._tasks = {asyncio.create_task(self._listen())}
        name = self._listener.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        """Where it listens."""

    @contextlib.contextmanager
    def expecting(self) -> Iterator[Expected]:
        """Let one more connection in; it is closed at the end."""
        token = secrets.token_bytes(_TOKEN)
        arrival: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._expected[token] = arrival
        try:
            yield Expected(token, arrival)
        finally:
            self._expected.pop(token, None)
            if not arrival.cancel() and not arrival.cancelled():
                arrival.result().close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = loop.create_task(self._let_in(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _let_in(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = b""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            said = await asyncio.wait_for(_read_token(connection), timeouts.RAY_TOKEN)
        arrival = self._recognise(said)
        if arrival is None or arrival.done():
            connection.close()
        else:
            arrival.set_result(connection)

    def _recognise(self, said: bytes) -> asyncio.Future[socket.socket] | None:
        """Return for whom somebody comes; how long it takes tells nothing about the tokens."""
        matching = [token for token in self._expected if hmac.compare_digest(token, said)]
        return self._expected.pop(matching[0]) if matching else None


async def _read_token(connection: socket.socket) -> bytes:
    said = b""
    while len(said) < _TOKEN:
        data = await asyncio.get_running_loop().sock_recv(connection, _TOKEN - len(said))
        if not data:
            break
        said += data
    return said
