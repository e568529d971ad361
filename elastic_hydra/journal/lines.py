"""The usable lines of a journal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.codec import NewerFormat, UnusableLine, decode
from elastic_hydra.journal.events import VERSION, Event
from elastic_hydra.journal.files import distrust

__all__ = ["Lines"]

log = logging.getLogger("elastic_hydra")


class Lines:
    """The events of a journal, each with the position of its line, in bytes.

    Unknown events, of later versions, are passed over silently. `say_what_is_lost` warns of lines that cannot be used.

    Args:
        path: the journal; a file that does not exist has no lines.
        start: position of the first line to read, in bytes.
        end: position behind the last line to read, in bytes; None: the end of the file.
    """

    def __init__(self, path: Path, start: int = 0, end: int | None = None) -> None:
        self.path = path
        self.distrust = ""
        """Why pickles in the journal must not be loaded; empty: they may be. It is known once a line has been read."""
        self._start = start
        self._end = end
        self._unusable: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        """Read the lines, one by one.

        Raises:
            ConfigError: a newer version of this package has written the journal.
            OSError: the journal cannot be read.
        """
        try:
            file = open(self.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            self.distrust = distrust(file.fileno())
            file.seek(self._start)
            offset = self._start
            for number, text in enumerate(file, 1):
                if self._end is not None and offset >= self._end:
                    return
                event = self._decoded(text, number)
                if event is not None:
                    yield offset, event
                offset += len(text)

    def _decoded(self, text: bytes, number: int) -> Event | None:
        try:
            return decode(text)
        except UnusableLine as problem:
            self._unusable.append((number, str(problem)))
            return None
        except NewerFormat as newer:
            raise ConfigError(
                f"{self.path}, line {number}: version {newer.version} of the format, which a newer elastic_hydra has "
                f"written; this one reads versions up to {VERSION}. Resume the sweep with that elastic_hydra or a "
                "later one, or choose another directory and run all jobs anew"
            ) from None

    def say_what_is_lost(self) -> None:
        """Warn of the lines that cannot be used."""
        if not self._unusable:
            return
        (number, why), *further = self._unusable
        also = f", nor can {len(further)} more (line {', '.join(str(n) for n, _ in further[:5])}" if further else ""
        also += ", …)" if len(further) > 5 else ")" if further else ""
        log.warning("%s: line %s cannot be used (%s)%s; the other lines count", self.path, number, why, also)
