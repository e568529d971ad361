"""The launcher's end of a stream together with the transport that carries it: reads, writes, and never waits."""

from __future__ import annotations

import contextlib
import select
import socket
import time

from elastic_hydra import timeouts
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import Ended, Transport
from elastic_hydra.supervisor.protocol import Message

__all__ = ["Link"]

_READS = 64
"""So often a stream is read at most before others have their turn."""

_LOOK_INTERVAL = 0.1
"""Seconds between two looks whether a transport whose stream has ended has ended, too."""

_SHOWN_LINES = 5
"""Of the last lines of a transport in messages."""


class Link:
    """A stream to a host.

    Args:
        transport: not open yet.

    Raises:
        OSError: the transport cannot be opened.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.cut_at: float | None = None
        """When the end of the stream was read, or reading was given up; None: it has not ended."""
        self._writes = True
        self._look_at = 0.0
        self._sock = transport.open()
        self._stream = Stream(self._sock.fileno(), self._sock.fileno())

    @property
    def received(self) -> bytearray:
        """What has come and was not taken yet."""
        return self._stream.received

    def events(self) -> list[tuple[int, int]]:
        """Return what is to be polled before a `read`: file descriptors with events."""
        events = [(self.transport.fileno(), select.POLLIN)] if self.transport.fileno() >= 0 else []
        if self.cut_at is None:
            behind = self._writes and self._stream.is_behind
            events.append((self._sock.fileno(), select.POLLIN | (select.POLLOUT if behind else 0)))
        return events

    def next_look(self) -> float | None:
        """Return when to look whether the transport has ended; None: events will tell."""
        return None if self.cut_at is None else self._look_at

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Send a message, as `Stream.send` does. That nobody reads it is noticed by `read`."""
        if self._writes:
            with contextlib.suppress(EOFError):
                self._stream.send(message, urgent=urgent)

    def read(self) -> bool:
        """Take in what has come, and write what waits.

        Returns:
            whether something has come, be it the end.
        """
        if self.cut_at is not None:
            return False
        if self._writes:
            with contextlib.suppress(EOFError):
                self._stream.flush()
        had = False
        try:
            for _ in range(_READS):
                if not self._stream.fill():
                    break
                had = True
        except EOFError:
            self.cut_at = self._look_at = time.monotonic()
            had = True
        return had

    def take(self) -> Message | None:
        """Return the next message, as `Stream.take` does."""
        return self._stream.take()

    def ended(self, now: float) -> Ended | None:
        """Return how the transport has ended; None: it has not."""
        self._look_at = now + _LOOK_INTERVAL
        return self.transport.ended()

    def end_in_words(self, now: float) -> str:
        """Say how the transport has ended; empty: it has not, or may still say how."""
        ended = self.ended(now)
        if ended is None:
            is_over = self.cut_at is not None and now >= self.cut_at + timeouts.TRANSPORT
            return "it has closed its standard output" if is_over else ""
        how = f"it ended with exit code {ended.code}" if ended.code >= 0 else f"signal {-ended.code} killed it"
        said = " | ".join(line.strip() for line in ended.last_lines[-_SHOWN_LINES:])
        return f"{how}, and said: {said}" if said else f"{how}, and said nothing"

    def stop_reading(self) -> None:
        """Take the stream for ended: what comes cannot be understood any more."""
        self.received.clear()
        if self.cut_at is None:
            self.cut_at = self._look_at = time.monotonic()

    def stop_writing(self) -> None:
        """Let the other side read the end of the stream, should it ever read again."""
        self._writes = False
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the stream and the transport."""
        self._writes = False
        try:
            self.transport.kill()
        finally:
            self._sock.close()
