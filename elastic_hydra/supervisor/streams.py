"""Standard streams of forked processes: those of the app, if they end where this process's output goes."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

from elastic_hydra.supervisor import inherited

__all__ = ["renew", "take_over"]


def renew() -> None:
    """Give this process standard output and error streams as a new interpreter has them."""
    for name, fd in _OUTPUTS.items():
        stream = _output(fd)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def take_over() -> None:
    """Go on with the streams that the app has, at import, put in their places or changed.

    They end in the file descriptors of the first ones, which are this process's own. What a notebook or a test runner
    has put there is for its own process, and is replaced.
    """
    for name, fd in _OUTPUTS.items():
        first = getattr(sys, f"__{name}__")
        if not _writes_to(first, fd):
            setattr(sys, f"__{name}__", _output(fd))
        elif isinstance(first, io.TextIOWrapper):
            first.reconfigure(line_buffering=True, write_through=True)  # what a worker writes is never held back
        if _is_not_the_apps(getattr(sys, name)):
            setattr(sys, name, getattr(sys, f"__{name}__"))
    if _is_not_the_apps(sys.stdin):
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process


_OUTPUTS = {"stdout": 1, "stderr": 2}


def _is_not_the_apps(stream: object) -> bool:
    return stream is None or type(stream) is io.StringIO or inherited.is_of_a_tool(stream)


def _writes_to(stream: Any, fd: int) -> bool:
    with contextlib.suppress(Exception):  # None, closed, or something of its own kind
        return bool(stream.fileno() == fd)
    return False


def _output(fd: int) -> io.TextIOWrapper:
    errors = "backslashreplace" if fd == 2 else "strict"
    raw = io.FileIO(fd, "wb", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=True, write_through=True)
