"""Messages over a local stream socket, with the files that ride beside them.

`Channel` is for an end that has others to look after, the server's: it never waits. What has come of a message is kept
until the rest has, and what the other side does not read is kept until it does. `send` and `receive` are for ends that
have nothing else to do.

The kernel hands over the files of one `sendmsg` with the first of its bytes, and never those of two at once. So the
files that have come belong, in their order, to the frames that say that they have any.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from elastic_hydra.supervisor.protocol import Message, decode, encode

__all__ = ["Channel", "FilesLostError", "Received", "receive", "send"]

_MAX_FDS = 253
"""The kernel's limit for one message."""
_CHUNK = 1 << 16
"""Bytes that are read at once."""


class FilesLostError(OSError):
    """A message has come, but not its files: this process may open no more."""

    def __init__(self) -> None:
        super().__init__(errno.EMFILE, os.strerror(errno.EMFILE))


class Received(NamedTuple):
    """A message that is all there."""

    message: Message
    files: list[int] | None
    """File descriptors, which are the receiver's to close; None: they have not come, as `FilesLostError` says."""


class Channel:
    """One end of a connection.

    Args:
        sock: a Unix stream socket. If it does not block, no method here does.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._input = bytearray()
        self._files: deque[list[int] | None] = deque()
        """What has come beside frames that are not all there yet; None: it was lost."""
        self._output: deque[tuple[bytes, list[int]]] = deque()
        """What could not be sent yet, with the channel's own copies of the files."""
        self.backlog = 0
        """Bytes of that."""

    def fileno(self) -> int:
        """Return the socket's file descriptor, for selectors."""
        return self.sock.fileno()

    def fill(self) -> None:
        """Read what is there, once.

        Raises:
            EOFError: the other side is gone.
        """
        try:
            data, files, flags, _ = socket.recv_fds(self.sock, _CHUNK, _MAX_FDS)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        for fd in files:
            os.set_inheritable(fd, False)  # as all that Python opens; a received one would reach every program
        if flags & socket.MSG_CTRUNC:
            _close(files)
            self._files.append(None)
        elif files:
            self._files.append(files)
        self._input += data

    def take(self) -> Received | None:
        """Return the next message that is all there, if there is one.

        Raises:
            ProtocolError: something else has come.
        """
        frame = decode(self._input)
        if frame is None:
            return None
        del self._input[: frame.end]
        if not frame.files:
            return Received(frame.message, [])
        return Received(frame.message, self._files.popleft() if self._files else None)

    def send(self, message: Message, files: Sequence[int] = ()) -> None:
        """Send a message, or as much of it as there is room for; `flush` sends the rest.

        Args:
            message: the message.
            files: at most 253 file descriptors that the receiver gets duplicates of.

        Raises:
            OSError: the other side is gone.
        """
        data = encode(message, len(files))
        sent = 0 if self._output else self._write(data, files)
        if sent < len(data):
            kept = [] if sent else [os.dup(fd) for fd in files]
            self._output.append((data[sent:], kept))
            self.backlog += len(data) - sent

    def flush(self) -> None:
        """Send of the backlog what there is room for.

        Raises:
            OSError: the other side is gone.
        """
        while self._output:
            data, files = self._output[0]
            sent = self._write(data, files)
            if not sent:
                return
            self._output.popleft()
            self.backlog -= sent
            _close(files)
            if sent < len(data):
                self._output.appendleft((data[sent:], []))

    def close(self) -> None:
        """Close the socket, and all files that are on their way."""
        self.sock.close()
        for files in (*self._files, *(kept for _, kept in self._output)):
            _close(files or [])
        self._files.clear()
        self._output.clear()

    def _write(self, data: bytes, files: Sequence[int]) -> int:
        try:
            return socket.send_fds(self.sock, [data], files) if files else self.sock.send(data)
        except BlockingIOError:
            return 0


def send(sock: socket.socket, message: Message, files: Sequence[int] = ()) -> None:
    """Send a message, and wait until all of it is sent.

    Args:
        sock: a Unix stream socket that blocks.
        message: the message.
        files: as for `Channel.send`.

    Raises:
        OSError: the other side is gone.
    """
    data = encode(message, len(files))
    sent = socket.send_fds(sock, [data], files)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """Wait for the only message that the other side sends before it gets an answer.

    Args:
        sock: a Unix stream socket that blocks.

    Returns:
        the message and its file descriptors.

    Raises:
        EOFError: the other side is gone.
        FilesLostError: not all of its file descriptors could be received.
        ProtocolError: something else has come.
    """
    channel = Channel(sock)
    while (received := channel.take()) is None:
        channel.fill()
    if received.files is None:
        raise FilesLostError
    return received.message, received.files


def _close(files: Sequence[int]) -> None:
    for fd in files:
        os.close(fd)
