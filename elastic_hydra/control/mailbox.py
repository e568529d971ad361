"""Requests to a launcher from other hosts: lines of a file in the sweep's directory, at which it looks now and then.

::

    elastic-hydra stop ── request ──▶ journal.requests ◀── looks every few seconds ── launcher
      on another host  ◀── answer ──                   ◀── answer ──

The launcher makes the file when it begins. A network file system shows what is in a file when it is opened, but that
there is a new file, it may show much later. The file belongs to the launcher's user, and only they and root can write
into it: so whoever has written a line may ask.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elastic_hydra import timeouts
from elastic_hydra.control.asked import Asked
from elastic_hydra.control.requests import Request
from elastic_hydra.journal.files import distrust, open_private, user_name

__all__ = ["LOOK_INTERVAL", "Mailbox", "ask_by_mail", "has_mailbox"]

LOOK_INTERVAL = 5.0
"""Seconds between two looks of a launcher."""
_FILE_NAME = "journal.requests"
_POLL_INTERVAL = 0.2
"""Seconds between two looks of who waits for an answer."""


class Mailbox:
    """The launcher's end.

    Args:
        folder: the sweep's directory.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE_NAME
        fd = open_private(self._path, os.O_RDWR | os.O_APPEND)
        self._position = os.fstat(fd).st_size  # what is there was for an earlier launcher
        os.close(fd)
        self.next_look = time.monotonic() + LOOK_INTERVAL
        """When there may be something to take, on the monotonic clock."""

    def take(self) -> list[Asked]:
        """Return the requests that have come since it was looked at last; looks only when it is time."""
        if time.monotonic() < self.next_look:
            return []
        self.next_look = time.monotonic() + LOOK_INTERVAL
        with contextlib.suppress(OSError):  # it was removed, or the file system does not answer now
            return [asked for line in self._new_lines() if (asked := self._asked(line)) is not None]
        return []

    def refuse_all(self, why: str) -> None:
        """Refuse the requests that have come."""
        self.next_look = 0.0
        for asked in self.take():
            asked.refuse(why)

    def close(self) -> None:
        """Remove the file, if nothing was ever asked by it."""
        with contextlib.suppress(OSError):
            if not self._path.stat().st_size:
                self._path.unlink()

    def _new_lines(self) -> list[bytes]:
        with open(self._path, "rb") as file:
            if distrust(file.fileno()):
                return []
            file.seek(self._position)
            *lines, _ = file.read().split(b"\n")
        self._position += sum(len(line) + 1 for line in lines)
        return lines

    def _asked(self, line: bytes) -> Asked | None:
        """Return the request of a line; None: it has none, or the answer to one."""
        try:
            said: Any = json.loads(line)
            mail, by = said["mail"], said["by"]
        except (ValueError, KeyError, TypeError):
            return None

        def answer(words: Mapping[str, Any]) -> None:
            with contextlib.suppress(OSError):
                _append(self._path, {"answer_to": mail, **words})

        try:
            return Asked(Request.decode(line), str(by), answer)
        except ValueError as error:
            answer({"error": str(error)})
            return None


def has_mailbox(folder: Path) -> bool:
    """Whether a launcher of a sweep takes, or has taken, requests from other hosts.

    Args:
        folder: the sweep's directory.
    """
    return (folder / _FILE_NAME).exists()


def ask_by_mail(folder: Path, request: Request) -> dict[str, Any]:
    """Ask the launcher of a sweep, wherever it runs, and wait for its answer.

    Args:
        folder: the sweep's directory.
        request: what is asked.

    Returns:
        its answer.

    Raises:
        TimeoutError: there is none.
        OSError: the file cannot be written.
    """
    path, mail = folder / _FILE_NAME, secrets.token_hex(8)
    position = path.stat().st_size
    _append(path, {**json.loads(request.encode()), "mail": mail, "by": user_name(os.geteuid())})
    deadline = time.monotonic() + timeouts.MAIL_ANSWER
    while time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL)
        with open(path, "rb") as file:
            file.seek(position)
            lines = file.read().split(b"\n")[:-1]
        for line in lines:
            with contextlib.suppress(ValueError):
                said: dict[str, Any] = json.loads(line)
                if said.get("answer_to") == mail:
                    return said
    raise TimeoutError


def _append(path: Path, words: Mapping[str, Any]) -> None:
    """Append a line, in one piece."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, (json.dumps(words) + "\n").encode())
    finally:
        os.close(fd)
