"""What had another name in earlier versions of psutil."""

from __future__ import annotations

from typing import Any

import psutil

__all__ = ["connections"]


def connections(process: psutil.Process, kind: str) -> list[Any]:
    """Return the sockets that a process has.

    Args:
        process: the process.
        kind: which sockets, in psutil's words: "inet", "tcp" and so on.
    """
    process_or_older: Any = process
    look = getattr(process_or_older, "net_connections", None) or process_or_older.connections  # before psutil 6
    return list(look(kind))
