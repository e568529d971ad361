"""Every launch must leave this process as it was: each test here is checked for that."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import TCPStore


def _open_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that lists the others
            yield os.readlink(f"/proc/self/fd/{fd}")


def _adopts_orphans() -> bool:
    adopts = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(adopts), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    return bool(adopts.value)


def _difference(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        before, after = before.items(), after.items()
    return (
        f"gone {[item for item in before if item not in after]}, new {[item for item in after if item not in before]}"
    )


def _state(temporary: Path) -> dict[str, Any]:
    gc.collect()
    return {
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}},
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": sorted(process.pid for process in psutil.Process().children(recursive=True)),
        "temporary files": sorted(str(path) for path in temporary.rglob("*")),
        "file descriptors": sorted(_open_files()),
        "working directory": os.getcwd(),
        "adoption of orphans": _adopts_orphans(),
    }


@pytest.fixture(scope="session")
def opened_once() -> None:
    """Have libuv open the pipe that it keeps for the life of a process."""
    TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture(autouse=True)
def nothing_left(opened_once: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    temporary = tmp_path_factory.mktemp("tmp")
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    state = _state(temporary)
    yield
    after = _state(temporary)
    tempfile.tempdir = before[0]
    if before[1] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before[1]
    for what, found in after.items():
        assert found == state[what], f"a launch has changed: {what}: {_difference(state[what], found)}"
