"""The lines of a journal, as far as they can be used."""

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
    """The events of a journal, each with where its line begins, in bytes.

    Events that are not known here are passed over in silence; `say_what_is_lost` tells of lines that cannot be used.

    Args:
        path: the journal; one that is not there has no lines.
        start: where to begin, in bytes.
        end: where to end, in bytes; None: at the end of the file.
    """

    def __init__(self, path: Path, start: int = 0, end: int | None = None) -> None:
        self.path = path
        self.distrust = ""
        """Why pickles in the journal are not to be read; empty: they are."""
        self._start = start
        self._end = end
        self._unusable: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, Event]]:
        """Read the lines, one by one.

        Raises:
            ConfigError: a newer version of this package has written them.
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
                "later one, or choose another hydra.sweep.dir and run all jobs anew"
            ) from None

    def say_what_is_lost(self) -> None:
        """Warn of the lines that cannot be used."""
        if not self._unusable:
            return
        (number, why), *others = self._unusable
        also = f", nor can {len(others)} more (line {', '.join(str(n) for n, _ in others[:5])}" if others else ""
        also += ", …)" if len(others) > 5 else ")" if others else ""
        log.warning("%s: line %s cannot be used (%s)%s; the other lines count", self.path, number, why, also)
