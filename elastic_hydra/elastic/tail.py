"""Shows on the console what workers write into their files."""

from __future__ import annotations

import codecs
import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import IO, TextIO

from elastic_hydra import timeouts
from elastic_hydra.elastic.shown_lines import LongLines, last_states

__all__ = ["Tail", "encodable"]

_INTERVAL = 0.1
"""Seconds between looks at the files."""
_CHUNK = 1 << 16
_BAR = 10.0
"""Seconds between two states of a progress bar that are shown, where each line has a prefix."""
_MOST_HELD = 1 << 20
"""Characters that are held back at most, of a traceback or, where lines are chosen, of one that has not ended."""
_TRACEBACK = re.compile(r"^(?:\[rank\d+\]: ?)?Traceback \(most recent call last\):", re.MULTILINE)
_LAST_LINE = re.compile(
    r"^(?:\[rank\d+\]: ?)?[A-Za-z_][\w.]*(?:: .*)?\r?\n"
    r"(?:\s*(?:The above exception was the direct cause of|During handling of the above exception).*\n)?\s*?",
    re.MULTILINE,
)
"""The exception itself, below its traceback: the first line that is not indented."""


class Tail:
    """Copies the growth of some files to a stream, in a thread of its own.

    torch's goes to sleep between looks, so that every job waits for it at its end, and puts its prefix into the middle
    of lines that are written in parts. Without a prefix everything is passed on as it is, progress bars too.

    A traceback is held back for a moment: a rank that dies because another one has died, or because it is told to
    stop, writes one that says nothing about what has happened. It stays in the file.

    Args:
        files: by local rank; they need not exist yet.
        stream: where it goes.
        prefixes: what each whole line of a rank begins with.
        wanted: which lines to pass on; None: all.
        holds: whether tracebacks are held back.
    """

    def __init__(
        self,
        files: Mapping[int, str],
        stream: TextIO,
        prefixes: Mapping[int, str],
        wanted: Callable[[str], bool] | None = None,
        *,
        holds: bool = False,
    ) -> None:
        cuts = wanted is None
        self._sources = {rank: _Source(path, prefixes.get(rank, ""), holds, cuts) for rank, path in files.items()}
        self._stream = stream
        self._wanted = wanted
        self._silent: Collection[int] = ()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Tail:
        """Begin."""
        if self._sources:
            thread = threading.Thread(target=self._run, name="elastic-hydra-tail", daemon=True)
            thread.start()
            self._thread = thread  # not one that could not be started: nobody could wait for its end
        return self

    def hold_back(self, ranks: Collection[int]) -> None:
        """From now on, do not show the tracebacks of some local ranks: others are the reason of their end."""
        self._silent = ranks

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
            for rank, source in self._sources.items():
                self._pass_on(rank, source, last)
        for source in self._sources.values():
            source.close()

    def _pass_on(self, rank: int, source: _Source, last: bool) -> None:
        by_line = bool(source.prefix) or self._wanted is not None
        more = True
        while more:
            text, more = source.read(by_line, last, rank in self._silent)
            if by_line:
                lines = [line for line in text.splitlines(keepends=True) if self._wanted is None or self._wanted(line)]
                text = "".join(source.prefix + line for line in lines)
            if not text:
                continue
            # A console that has gone must not end the job.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(encodable(text, self._stream))
                self._stream.flush()


def encodable(text: str, stream: TextIO) -> str:
    """Write what a stream's encoding cannot say as `\\u…`, so that it takes the rest of the line."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


class _Source:
    """One file, and what of it has been read and is not passed on yet."""

    def __init__(self, path: str, prefix: str, holds: bool, cuts: bool) -> None:
        self.prefix = prefix
        self._holds = holds
        self._long_lines = LongLines() if cuts else None
        self._path = path
        self._file: IO[bytes] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in two parts
        self._part = ""
        self._held_since: float | None = None
        self._bar_since: float | None = None
        """When a progress bar was shown last, or began."""

    def read(self, by_line: bool, last: bool, silent: bool) -> tuple[str, bool]:
        """Return what is new and may be shown, and whether there may be more.

        Args:
            by_line: whole lines only, unless nothing more will come.
            last: whether nothing more will come.
            silent: leave tracebacks out.
        """
        if self._file is None:
            try:
                self._file = open(self._path, "rb")  # noqa: SIM115 - kept until `close`
            except OSError:
                return "", False
        data = self._file.read(_CHUNK)
        all_of_it = last and not data
        new = self._decoder.decode(data, final=all_of_it)
        text = self._part + (new if self._long_lines is None else self._long_lines.cut(new, last=all_of_it))
        shown, held = self._without_traceback(text, all_of_it, silent) if self._holds else (text, "")
        end = len(shown) if all_of_it or not by_line else shown.rfind("\n") + 1
        self._part = shown[end:] + held
        if len(self._part) > _MOST_HELD:
            shown, self._part, end = shown + held, "", len(shown) + len(held)
        shown = shown[:end]
        if by_line and self._long_lines is not None:
            shown = last_states(shown) + ("" if held else self._state_of_bar())
        return shown + ("\n" if all_of_it and by_line and shown and not shown.endswith("\n") else ""), bool(data)

    def _state_of_bar(self) -> str:
        """Return the last state of a line that overwrites itself, if it is time to show it again."""
        if "\r" not in self._part:
            self._bar_since = None
            return ""
        ended, _, new = self._part.rpartition("\r")
        state = last_states(ended)
        now = time.monotonic()
        self._bar_since = self._bar_since or now
        if not state or now - self._bar_since < _BAR:
            self._part = f"{state}\r{new}"
            return ""
        self._bar_since, self._part = now, f"\r{new}"
        return f"{state}\n"

    def _without_traceback(self, text: str, all_of_it: bool, silent: bool) -> tuple[str, str]:
        """Split a text into what is shown now and what is held back: from the first traceback on."""
        found = _TRACEBACK.search(text)
        if found is None:
            self._held_since = None
            return text, ""
        start = found.start()
        if silent:
            last_line = _LAST_LINE.search(text, text.find("\n", start) + 1)
            if last_line is None:
                return text[:start], "" if all_of_it else text[start:]
            rest, held = self._without_traceback(text[last_line.end() :], all_of_it, silent)
            return text[:start] + rest, held
        self._held_since = self._held_since or time.monotonic()
        if all_of_it or time.monotonic() - self._held_since > timeouts.TRACEBACK_HELD:
            self._held_since = None
            return text, ""
        return text[:start], text[start:]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
