"""Shows on the console what workers write into their files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import IO, TextIO

__all__ = ["Tail"]

_INTERVAL = 0.1
"""Seconds between looks at the files."""
_CHUNK = 1 << 16


class Tail:
    """Copies the growth of some files to a stream, in a thread of its own.

    torch's goes to sleep between looks, so that every job waits for it at its end, and puts its prefix into the middle
    of lines that are written in parts. Without a prefix everything is passed on as it is, progress bars too.

    Args:
        files: by local rank; they need not exist yet.
        stream: where it goes.
        prefixes: what each whole line of a rank begins with.
        wanted: which lines to pass on; None: all.
    """

    def __init__(
        self,
        files: Mapping[int, str],
        stream: TextIO,
        prefixes: Mapping[int, str],
        wanted: Callable[[str], bool] | None = None,
    ) -> None:
        self._sources = {rank: _Source(path, prefixes.get(rank, "")) for rank, path in files.items()}
        self._stream = stream
        self._wanted = wanted
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Tail:
        """Begin."""
        if self._sources:
            self._thread = threading.Thread(target=self._run, name="elastic-hydra-tail", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Pass on what is there by now, and end."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(_INTERVAL)
            for source in self._sources.values():
                self._pass_on(source, last)
        for source in self._sources.values():
            source.close()

    def _pass_on(self, source: _Source, last: bool) -> None:
        by_line = bool(source.prefix) or self._wanted is not None
        while text := source.read(by_line, last):
            if by_line:
                lines = [line for line in text.splitlines(keepends=True) if self._wanted is None or self._wanted(line)]
                text = "".join(source.prefix + line for line in lines)
            # A console that has gone must not end the job.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


class _Source:
    """One file, and what of its last line has been read so far."""

    def __init__(self, path: str, prefix: str) -> None:
        self.prefix = prefix
        self._path = path
        self._file: IO[str] | None = None
        self._part = ""

    def read(self, by_line: bool, last: bool) -> str:
        """Return what is new: whole lines if asked for, unless nothing more will come."""
        if self._file is None:
            try:
                self._file = open(self._path, errors="replace", newline="")  # noqa: SIM115 - kept until `close`
            except OSError:
                return ""
        text = self._file.read(_CHUNK)
        if not by_line:
            return text
        text = self._part + text
        end = len(text) if last and len(text) == len(self._part) else text.rfind("\n") + 1
        self._part = text[end:]
        return text[:end] + ("\n" if last and end and not text[:end].endswith("\n") else "")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
