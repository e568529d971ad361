"""The lines of a journal, as far as they can be used."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elastic_hydra.journal.files import distrust
from elastic_hydra.journal.writer import VERSION

__all__ = ["Lines"]

log = logging.getLogger("elastic_hydra")

_STATES = ("finished", "failed", "interrupted", "preempted")
_FIELDS: dict[str, dict[str, type]] = {
    "sweep": {},
    "job": {"num": int, "overrides": list, "config": str, "dir": str},
    "start": {"num": int, "attempt": int},
    "failure": {"num": int},
    "lost": {"num": int, "reason": str},
    "end": {"num": int, "state": str, "reason": str},
}
"""What a line must have to be used; those of other events are passed over."""


class Lines:
    """The lines of a journal that can be used, each with where it begins, in bytes.

    Args:
        path: the journal; one that is not there has no lines.
        start: where to begin, in bytes.
        end: where to end, in bytes; None: at the end of the file.
    """

    def __init__(self, path: Path, start: int = 0, end: int | None = None) -> None:
        self.path = path
        self.number = 0
        """Of the line that was read last; the first one is 1."""
        self.distrust = ""
        """Why pickles in the journal are not to be read; empty: they are."""
        self._start = start
        self._end = end
        self._unusable: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            self.distrust = distrust(file.fileno())
            file.seek(self._start)
            offset = self._start
            for self.number, text in enumerate(file, 1):
                if self._end is not None and offset >= self._end:
                    return
                line = _parsed(text)
                if isinstance(line, dict):
                    yield offset, line
                elif line:
                    self._unusable.append((self.number, line))
                offset += len(text)

    def say_what_is_lost(self) -> None:
        """Warn of the lines that cannot be used."""
        if not self._unusable:
            return
        (number, why), *others = self._unusable
        also = f", nor can {len(others)} more (line {', '.join(str(n) for n, _ in others[:5])}" if others else ""
        also += ", …)" if len(others) > 5 else ")" if others else ""
        log.warning("%s: line %s cannot be used (%s)%s; the other lines count", self.path, number, why, also)


def _parsed(text: bytes) -> dict[str, Any] | str:
    """Return what a line says, or why it cannot be used; nothing for an event that nobody here reads."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # its writer was killed, the disk was full, or somebody has changed it
        return "it is no JSON, or half a line"
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        return "it says no event"
    if type(line.setdefault("v", VERSION)) is not int:
        return f"v={line['v']!r:.40} is no version"
    if line["event"] not in _FIELDS:
        return line if line["v"] > VERSION else ""
    wrong = _wrong_field(line)
    return f"'{line['event']}' {wrong}" if wrong else line


def _wrong_field(line: dict[str, Any]) -> str:
    """Say what a line lacks, or what it has that cannot be; nothing when it is as it should be."""
    event = line["event"]
    for name, kind in _FIELDS[event].items():
        if name not in line:
            return f"without '{name}'"
        if not isinstance(line[name], kind) or isinstance(line[name], bool):
            return f"with {name}={line[name]!r:.40}"
    impossible = {
        "overrides": event == "job" and not all(isinstance(override, str) for override in line["overrides"]),
        "task": event == "sweep" and not isinstance(line.get("task", ""), str),
        "state": event == "end" and line["state"] not in _STATES,
    }
    return next((f"with {name}={line[name]!r:.40}" for name, is_so in impossible.items() if is_so), "")
