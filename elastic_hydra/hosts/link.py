"""The launcher's end of a stream together with the transport that carries it: reads, writes, and never waits.

The launcher's main thread uses it, and while that does something else, the thread of `KeepAlive` does: a lock is held
by whoever does. Messages that the other thread has read wait for the main thread, and wake it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque

from elastic_hydra import timeouts
from elastic_hydra.hosts.bell import Bell
from elastic_hydra.hosts.signs_of_life import Pings
from elastic_hydra.hosts.stream import Stream
from elastic_hydra.hosts.transport import Ended, Transport
from elastic_hydra.supervisor.protocol import Message, Open, Pong, ProtocolError

__all__ = ["Link"]

_READS = 64
"""So often a stream is read at most before others have their turn."""

_LOOK_INTERVAL = 0.1
"""Seconds between two looks whether a transport whose stream has ended has ended, too."""

_KEPT_LINES = 10_000
"""So many lines of a transport's wait for the main thread at most; jobs write theirs into their logs, too."""

_SHOWN_LINES = 5
"""Of the last lines of a transport in messages."""


class Link:
    """A stream to a host, and the signs of life that are exchanged over it.

    Args:
        transport: not open yet.
        silence: seconds without a sign of life after which each side gives the other up.

    Raises:
        OSError: the transport cannot be opened.
    """

    def __init__(self, transport: Transport, silence: float) -> None:
        self.transport = transport
        self.cut_at: float | None = None
        """When the end of the stream was read, or reading was given up; None: it has not ended."""
        self.pings = Pings(silence, time.monotonic(), 0.0)
        self.used_at = time.monotonic()
        """When the main thread was here last."""
        self._silence = silence
        self._lock = threading.RLock()
        self._speaks = False
        """Whether the host process was greeted: what comes are messages, and signs of life are due."""
        self._messages: deque[Message] = deque()
        """Those that have come, and were not taken yet."""
        self._problem: ProtocolError | None = None
        """What has come after them."""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        """Those of the transport's that the other thread has read."""
        self._lines_read = 0
        """How many these were, before some were dropped."""
        self._writes = True
        self._look_at = 0.0
        self._news = Bell()  # comes first: without file descriptors for it, nothing may have been started
        """Rings when the other thread has read something."""
        self._sock = transport.open()
        self._stream = Stream(self._sock.fileno(), self._sock.fileno())

    @property
    def received(self) -> bytearray:
        """What has come from a host process that was not greeted yet."""
        return self._stream.received

    def events(self) -> list[tuple[int, int]]:
        """Return what is to be polled before a `read`: file descriptors with events."""
        return [(self._news.fileno(), select.POLLIN), *self._events_outside()]

    def _events_outside(self) -> list[tuple[int, int]]:
        events = [(self.transport.fileno(), select.POLLIN)] if self.transport.fileno() >= 0 else []
        if self.cut_at is None:
            behind = self._writes and self._stream.is_behind
            events.append((self._sock.fileno(), select.POLLIN | (select.POLLOUT if behind else 0)))
        return events

    def next_look(self) -> float | None:
        """Return when to look whether the transport has ended; None: events will tell."""
        return None if self.cut_at is None else self._look_at

    def greet(self, first: Open, offset: float) -> None:
        """Say the first word to a host process, and exchange signs of life with it from now on.

        Args:
            first: the word.
            offset: its monotonic clock minus that of this process, as far as it is known.
        """
        with self._lock:
            self.pings = Pings(self._silence, time.monotonic(), offset)
            self._speaks = True
            self.send(first)

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Send a message, as `Stream.send` does. That nobody reads it is noticed by `read`."""
        with self._lock:
            if self._writes:
                with contextlib.suppress(EOFError):
                    self._stream.send(message, urgent=urgent)

    def send_ping(self, now: float) -> None:
        """Say that the launcher is there, if that is due."""
        with self._lock:
            if self._speaks and (ping := self.pings.due(now)) is not None:
                self.send(ping, urgent=True)

    def read(self) -> bool:
        """Take in what has come, and write what waits.

        Returns:
            whether something has come, be it the end.
        """
        with self._lock:
            self.used_at = time.monotonic()
            self._news.hush()
            return self._read() or bool(self._messages)

    def _read(self) -> bool:
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
        if self._speaks:
            self._take_in()
        return had

    def _take_in(self) -> None:
        """Hear the signs of life among what has come, and keep the messages."""
        try:
            while (message := self._stream.take()) is not None:
                if isinstance(message, Pong):
                    self.pings.hear(message, time.monotonic())
                else:
                    self._messages.append(message)
        except ProtocolError as error:
            self._problem = error

    def take(self) -> Message | None:
        """Return the next message that has come, if there is one.

        Raises:
            ProtocolError: something else has come after the last one.
        """
        with self._lock:
            if self._speaks:  # there may be some behind the first words
                self._take_in()
            if self._messages:
                return self._messages.popleft()
            if self._problem is not None:
                raise self._problem
            return None

    def lines(self) -> list[str]:
        """Return what `Transport.lines` returns; of what was left for very long, the last lines."""
        with self._lock:
            lines = [*self._lines, *self.transport.lines()]
            if dropped := self._lines_read - len(self._lines):
                lines.insert(0, f"[{dropped} lines of {self.transport.name} are left out, which nobody could take]")
            self._lines.clear()
            self._lines_read = 0
            return lines

    # --- for the other thread ------------------------------------------------------------------------------------

    def is_left_alone(self, now: float) -> bool:
        """Whether the main thread does something else, although signs of life are due; but not for ever."""
        away = now - self.used_at
        is_heard = self._speaks and self._writes and self.cut_at is None
        return is_heard and self.pings.patience < away < timeouts.LAUNCHER_AWAY

    def waits_for(self) -> list[tuple[int, int]]:
        """Return what is to be polled before `keep_alive`: file descriptors with events."""
        with self._lock:
            return self._events_outside() if self._sock.fileno() >= 0 else []

    def keep_alive(self, now: float) -> None:
        """Exchange signs of life in place of the main thread; whatever else comes is kept for it."""
        with self._lock:
            if not self.is_left_alone(now) or self._sock.fileno() < 0:
                return
            lines = self.transport.lines()
            self._lines += lines
            self._lines_read += len(lines)
            if self._read() or lines:
                self._news.ring()
            self.send_ping(now)

    # --- its end -------------------------------------------------------------------------------------------------

    def ended(self, now: float) -> Ended | None:
        """Return how the transport has ended; None: it has not."""
        with self._lock:
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
        with self._lock:
            self.received.clear()
            self._messages.clear()
            self._problem = None
            if self.cut_at is None:
                self.cut_at = self._look_at = time.monotonic()

    def stop_writing(self) -> None:
        """Let the other side read the end of the stream, should it ever read again."""
        with self._lock:
            self._writes = False
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def terminate(self) -> None:
        """Begin to end the transport."""
        with self._lock:
            self.transport.terminate()

    def close(self) -> None:
        """End the stream and the transport."""
        with self._lock:
            self._writes = False
            try:
                self.transport.kill()
            finally:
                self._sock.close()
                self._news.close()
