"""Every launch must leave this process as it was: each test in the folders that import this is checked for that."""

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

from tests.helpers.forks import call_in_fork


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


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    temporary = Path(tempfile.gettempdir())
    before = _state(temporary)
    yield
    for what, found in _state(temporary).items():
        assert found == before[what], f"a launch has changed: {what}: {_difference(before[what], found)}"


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Check that, and give each launch a folder of its own for temporary files."""
    if request.node.get_closest_marker("system") is None:
        yield
        return
    request.getfixturevalue("opened_once")
    # Not the fixture `monkeypatch`: what a test changes by that has to be undone before this looks.
    with pytest.MonkeyPatch.context() as patch:
        temporary = str(tmp_path_factory.mktemp("tmp"))
        patch.setattr(tempfile, "tempdir", temporary)
        patch.setenv("TMPDIR", temporary)
        with unchanged():
            yield


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return call_in_fork(pyfuncitem, unchanged)
