"""One end of the stream between a launcher and a host process: messages, without ever waiting.

What has come of a message is kept until the rest has, and what the other side does not read now is kept until it does.
So a host that is stopped does not stop its launcher.
"""

from __future__ import annotations

import os
from collections import deque

from elastic_hydra.supervisor.protocol import Message, decode, encode

__all__ = ["Stream"]

_CHUNK = 1 << 18
"""Bytes that are read at once."""


class Stream:
    """Reads and writes messages.

    Args:
        reader: file descriptor of a pipe or socket from the other side. It is made not to block, as the other one.
        writer: file descriptor to the other side; it may be the same.
    """

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        self.received = bytearray()
        """What has come and was not taken yet."""
        self._current = memoryview(b"")
        """The rest of the message that is being written."""
        self._urgent: deque[bytes] = deque()
        """What comes next."""
        self._output: deque[bytes] = deque()
        """What comes after that."""

    @property
    def is_behind(self) -> bool:
        """Whether there is something that could not be written yet."""
        return bool(self._current or self._urgent or self._output)

    def fill(self) -> bool:
        """Read what is there, once.

        Returns:
            whether there was something.

        Raises:
            EOFError: the other side is gone.
        """
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self.received += data
        return True

    def take(self) -> Message | None:
        """Return the next message that is all there, if there is one.

        Raises:
            ProtocolError: something else has come.
        """
        frame = decode(self.received)
        if frame is None:
            return None
        del self.received[: frame.end]
        return frame.message

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Send a message, or as much of it as there is room for; `flush` sends the rest.

        Args:
            message: the message.
            urgent: whether it goes before others that wait: a sign of life, which they might keep too long.

        Raises:
            EOFError: the other side is gone.
            ProtocolError: the message is too long.
        """
        self.write(encode(message), urgent=urgent)

    def write(self, data: bytes, *, urgent: bool = False) -> None:
        """Send bytes, as `send` sends a message."""
        (self._urgent if urgent else self._output).append(data)
        self.flush()

    def flush(self) -> None:
        """Write of what waits as much as there is room for.

        Raises:
            EOFError: the other side is gone.
        """
        while self.is_behind:
            if not self._current:
                self._current = memoryview((self._urgent or self._output).popleft())
            try:
                self._current = self._current[os.write(self.writer, self._current) :]
            except BlockingIOError:
                return
            except ConnectionError as error:
                raise EOFError from error
