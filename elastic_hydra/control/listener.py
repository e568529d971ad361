"""The launcher's end of the control socket: one more file descriptor where its main thread waits for its server.

::

    elastic-hydra stop ──── Request ────▶ launcher    `serve`, while it waits, reads and checks the request
                       ◀─── answer ─────              between two steps of its loop it does what is asked

The socket's name is in Linux's abstract namespace, so there is no file: sweep directories may have long names or be on
a network, and a launcher that is killed leaves nothing behind. The kernel says which user is at the other end; only
this user and root are heard. The socket ends with the launcher, which has it alone: forks of the launcher close theirs.

What must never happen: a client that says nothing, says too much or reads no answer keeps the launcher from its jobs.
So nothing here blocks, each client may say one line, and there is room for a few clients only. Nor does a request take
effect while the launcher is in the middle of something else: like signals, requests wait until they are taken.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import socket
import struct
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elastic_hydra.control.asked import Asked
from elastic_hydra.control.requests import Request
from elastic_hydra.journal.files import user_name

__all__ = ["ControlSocket", "peer_of"]

_MOST_CLIENTS = 16
"""Clients that may be connected at once; when another one comes, the oldest one is dropped."""
_LONGEST_LINE = 1 << 16
"""Bytes of a request."""
_PEER = struct.Struct("3i")
"""What Linux says of the process at the other end: its process id, user and group."""

_open: weakref.WeakSet[ControlSocket] = weakref.WeakSet()
"""Those of this process. A fork that keeps a copy of one hides that the launcher is gone."""


@dataclass(eq=False)
class _Client:
    sock: socket.socket
    user: int
    said: bytes = field(default=b"")


class ControlSocket:
    """Takes requests from commands on this host.

    Raises:
        OSError: there can be no such socket here.
    """

    def __init__(self) -> None:
        self.name = f"elastic-hydra.{os.getpid()}.{secrets.token_hex(8)}"
        """In the abstract namespace: without the zero byte in front of it."""
        self.refusal = ""
        """Why no request is taken any more; empty: they are."""
        self._asked: list[Asked] = []
        self._clients: dict[int, _Client] = {}
        """By file descriptor, the oldest first."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(f"\0{self.name}")
        self._socket.listen(_MOST_CLIENTS)
        self._epoll = select.epoll()
        # Clients who cannot be taken in, as there are too many open files, are reported once: not until they are gone.
        self._epoll.register(self._socket, select.EPOLLIN | select.EPOLLET)
        weakref.finalize(self, _close, self._socket, self._epoll, self._clients).atexit = False
        _open.add(self)

    def fileno(self) -> int:
        """Return what becomes readable when there is something to `serve`, for `select.poll`."""
        return self._epoll.fileno()

    @property
    def has_requests(self) -> bool:
        """Whether there is something to take."""
        return bool(self._asked)

    def take(self) -> list[Asked]:
        """Return the requests that have come, each of them once."""
        asked, self._asked = self._asked, []
        return asked

    def refuse_all(self, why: str) -> None:
        """Refuse the requests that wait, and all that come.

        Args:
            why: for who has asked.
        """
        self.refusal = why
        for asked in self.take():
            asked.refuse(why)

    def serve(self) -> None:
        """Take in what clients have said, without waiting for any of them."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._socket.fileno():
                self._accept()
            elif (client := self._clients.get(fd)) is not None:
                self._hear(client)

    def close(self) -> None:
        """End the socket, here only: not that of the process of which this is a fork."""
        _close(self._socket, self._epoll, self._clients)

    def _accept(self) -> None:
        """Take in all clients that wait."""
        with contextlib.suppress(OSError):  # there is none any more, or there are too many open files
            while True:
                sock, _ = self._socket.accept()
                self._take_in(sock)

    def _take_in(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        _, user = peer_of(sock)
        if user not in (os.geteuid(), 0):
            sock.close()  # our own command says why before it says anything here
            return
        if len(self._clients) >= _MOST_CLIENTS:
            self._let_go(next(iter(self._clients.values()))).close()
        self._clients[sock.fileno()] = _Client(sock, user)
        self._epoll.register(sock, select.EPOLLIN)

    def _hear(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.said += data
        line, newline, _ = client.said.partition(b"\n")
        if newline:
            self._ask(self._let_go(client), line, client.user)
        elif not data:
            self._let_go(client).close()
        elif len(client.said) >= _LONGEST_LINE:
            _answer(self._let_go(client), {"error": f"a request is a line of less than {_LONGEST_LINE} bytes"})

    def _ask(self, sock: socket.socket, line: bytes, user: int) -> None:
        try:
            request = Request.decode(line)
        except ValueError as error:
            _answer(sock, {"error": str(error)})
            return
        asked = Asked(request, user_name(user), functools.partial(_answer, sock))
        if self.refusal:
            asked.refuse(self.refusal)
        else:
            self._asked.append(asked)

    def _let_go(self, client: _Client) -> socket.socket:
        """Listen to a client no more."""
        self._epoll.unregister(client.sock)
        del self._clients[client.sock.fileno()]
        return client.sock


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return the process id and the user at the other end of a socket, from the kernel."""
    pid, user, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user


def _answer(sock: socket.socket, words: Mapping[str, Any]) -> None:
    """Say one line to a client, and be done with it; it fits into the socket's buffer, whether it is read or not."""
    with sock, contextlib.suppress(OSError):
        sock.send((json.dumps(words) + "\n").encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def _close(sock: socket.socket, epoll: select.epoll, clients: dict[int, _Client]) -> None:
    epoll.close()
    sock.close()
    for client in clients.values():
        client.sock.close()
    clients.clear()


def _after_fork() -> None:
    for control in list(_open):
        control.close()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
