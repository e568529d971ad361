"""Messages between the warm server and the processes that ask it for others: pickles and file descriptors."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["FilesLostError", "parse", "receive", "send"]

_HEADER = struct.Struct("!I")
_MAX_FDS = 253
"""The kernel's limit for one message."""


class FilesLostError(OSError):
    """A message has come, but not its files: this process may open no more.

    Attributes:
        message: the message.
    """

    def __init__(self, message: Any) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))
        self.message = message


def send(sock: socket.socket, message: Any, fds: Sequence[int] = ()) -> None:
    """Send one message.

    Args:
        sock: a Unix stream socket.
        message: any picklable value; keep it small, large things travel in an `anonymous_file`.
        fds: at most 253 file descriptors that the receiver gets duplicates of.

    Raises:
        OSError: the other side is gone.
    """
    body = pickle.dumps(message)
    data = _HEADER.pack(len(body)) + body
    sent = socket.send_fds(sock, [data], fds)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[Any, list[int]] | None:
    """Receive one message.

    Args:
        sock: a Unix stream socket.

    Returns:
        the message and the file descriptors that came with it, or None when the other side is gone.

    Raises:
        FilesLostError: not all of its file descriptors could be received.
    """
    try:
        header, fds, flags, _ = socket.recv_fds(sock, _HEADER.size, _MAX_FDS)
        if not header:
            return None
        for fd in fds:
            os.set_inheritable(fd, False)  # as all that Python opens; a received one would reach every program
        header += _exactly(sock, _HEADER.size - len(header))
        (size,) = _HEADER.unpack(header)
        message = pickle.loads(_exactly(sock, size))
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise FilesLostError(message)
        return message, list(fds)
    except (ConnectionError, EOFError):
        return None


def parse(data: bytes, start: int) -> tuple[Any, int] | None:
    """Take one message out of bytes that were looked at before they are received.

    Args:
        data: what the socket holds.
        start: where the message begins.

    Returns:
        the message and where the next one begins, or None when it is not all there yet.
    """
    if len(data) < start + _HEADER.size:
        return None
    (size,) = _HEADER.unpack_from(data, start)
    end = start + _HEADER.size + size
    return (pickle.loads(data[start + _HEADER.size : end]), end) if len(data) >= end else None


def _exactly(sock: socket.socket, size: int) -> bytes:
    chunks = []
    while size:
        chunk = sock.recv(size)
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
