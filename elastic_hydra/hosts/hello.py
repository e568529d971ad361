"""The first words of a host process: a line of text, which any version can read, and what in it must not differ.

What follows in the stream are pickles. So both sides have the same Python, up to the minor version, and the same
version of this package and of torch. How torch was built may differ: a login node has it without CUDA.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata

__all__ = ["MAGIC", "Hello", "NoHelloError", "take_hello"]

MAGIC = b"ELASTIC-HYDRA-HOST "
"""By which the launcher finds the line behind what login scripts have written."""
_MOST_NOISE = 1 << 16
"""Bytes that may come before it."""
_SHOWN_NOISE = 500
"""Bytes of those that are shown when there are more."""
_NONE = "none"


class NoHelloError(Exception):
    """What has come is not from a host process."""


@dataclass(frozen=True)
class Hello:
    """What a host process says of itself, before it knows for whom it works."""

    host: str
    pid: int
    executable: str
    """Of its Python."""
    python: str
    """Version of its Python."""
    elastic_hydra: str
    """Version of this package; `none`: it was found, but is not installed."""
    torch: str
    """Version of torch, which is not imported for that; `none`: it is not installed."""
    monotonic: float
    wall: float
    """Seconds since the epoch."""

    @classmethod
    def of_this_process(cls) -> Hello:
        """Describe this process."""
        return cls(
            host=os.uname().nodename,
            pid=os.getpid(),
            executable=sys.executable,
            python=platform.python_version(),
            elastic_hydra=_version("elastic-hydra"),
            torch=_version("torch"),
            monotonic=time.monotonic(),
            wall=time.time(),
        )

    def line(self) -> bytes:
        """Return it as it is sent."""
        return MAGIC + json.dumps(asdict(self)).encode() + b"\n"

    def differences(self, here: Hello) -> list[str]:
        """Say what keeps this host process from working for a launcher; nothing if all is well.

        Args:
            here: the launcher's own description.
        """
        there, mine = f"host {self.host} ({self.executable})", f"the launcher on {here.host} ({here.executable})"
        versions = [("Python", _minor(self.python), _minor(here.python))]
        versions += [
            ("elastic-hydra", self.elastic_hydra, here.elastic_hydra),
            ("torch", _public(self.torch), _public(here.torch)),
        ]
        return [f"{there} has {what} {other}, and {mine} has {own}" for what, other, own in versions if other != own]


def take_hello(received: bytearray) -> Hello | None:
    """Take the line out of what has come first.

    Args:
        received: what has come so far; what is taken is removed.

    Returns:
        None when the line is not all there yet.

    Raises:
        NoHelloError: there is something else.
    """
    start = received.find(MAGIC)
    if start < 0 and len(received) <= _MOST_NOISE:
        return None
    if start < 0 or start > _MOST_NOISE:
        raise NoHelloError(f"it writes {_shown(received)} instead of a host process's first line")
    end = received.find(b"\n", start)
    if end < 0:
        return None
    line = bytes(received[start + len(MAGIC) : end])
    del received[: end + 1]
    try:
        return Hello(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise NoHelloError(
            f"the first line of its host process is {line.decode(errors='replace')!r}, as another version of "
            "elastic_hydra writes it: install the launcher's version there"
        ) from error


def _shown(received: bytearray) -> str:
    return repr(bytes(received[:_SHOWN_NOISE]).decode(errors="replace"))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _public(version: str) -> str:
    """Return a version without what follows its plus sign: `2.9.0` of `2.9.0+cu126`."""
    return version.partition("+")[0]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _NONE
