"""A program between the launcher and a host, such as ssh, that can be stopped and killed like one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["relayed"]

_RELAY = """
import os, select, subprocess, sys
ours, theirs = __import__("socket").socketpair()
subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs, start_new_session=True)
theirs.close()
ways = {0: (ours.fileno(), lambda: ours.shutdown(1)), ours.fileno(): (1, lambda: os.close(1))}
while ways:
    for source in select.select(list(ways), [], [])[0]:
        target, end = ways[source]
        data = os.read(source, 65536)
        if not data:
            end()
            del ways[source]
        try:
            while data:
                data = data[os.write(target, data):]
        except BrokenPipeError:  # the other direction may still bring something
            ways.pop(source, None)
"""


def relayed(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one and passes on what goes in and out, and that the other one outlives."""
    return [sys.executable, "-c", _RELAY, *command]
