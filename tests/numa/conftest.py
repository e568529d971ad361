"""Machines to read, in a folder of their own: thousands of small files, in memory where that is possible."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from elastic_hydra.numa.allowance import Allowance, read_allowance
from elastic_hydra.numa.topology import Topology, read_topology
from tests.numa.machines import machine, write, write_real

Host = tuple[Topology, Allowance]
ReadSmall = Callable[..., Host]

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""The folder of a file system in memory, if there is one."""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder for one test, as pytest's of that name."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def real() -> Iterator[Callable[[str], Host]]:
    """Reads a real machine by name."""
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        yield partial(_read_real, Path(folder))


@cache
def _read_real(folder: Path, name: str) -> Host:
    root = write_real(folder / name, name)
    return read_topology(root), read_allowance(root)


@pytest.fixture
def small(tmp_path: Path) -> ReadSmall:
    """Reads a small machine made of `machine`'s arguments."""

    def read(*args: object, **kwargs: object) -> Host:
        root = write(tmp_path, machine(*args, **kwargs))  # type: ignore[arg-type]
        return read_topology(root), read_allowance(root)

    return read
