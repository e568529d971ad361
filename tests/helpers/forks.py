"""Tests in forks: pytest-xdist's processes have a thread that listens, and a launch from them is not like others."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest


def call_in_fork(test: pytest.Function, check: Callable[[], AbstractContextManager[Any]] = nullcontext) -> bool | None:
    """Call a test in a fork of this process, if that frees it from a thread; for `pytest_pyfunc_call`.

    Args:
        test: with its fixtures set up.
        check: is around the call.

    Returns:
        whether it was called; None leaves that to pytest.
    """
    if test.get_closest_marker("system") is None:
        return None
    its_own = threading.active_count() > 1  # xdist's is not counted here
    if its_own or len(os.listdir("/proc/self/task")) == 1:
        return None
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(writer, "wb") as file:
            pickle.dump(_outcome(test, check), file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as file:
            data = file.read()
    finally:
        if sys.exc_info()[0] is not None:  # it takes too long
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    how, text = pickle.loads(data) if data else ("failed", "its process has died")
    if how == "skipped":
        pytest.skip(text)
    if how == "failed":
        pytest.fail(text, pytrace=False)
    return True


def _outcome(test: pytest.Function, check: Callable[[], AbstractContextManager[Any]]) -> tuple[str, str]:
    try:
        with check():
            test.obj(**{name: test.funcargs[name] for name in test._fixtureinfo.argnames})
            patched = test.funcargs.get("monkeypatch")
            if isinstance(patched, pytest.MonkeyPatch):
                patched.undo()
    except pytest.skip.Exception as skipped:
        return "skipped", str(skipped)
    except BaseException:
        return "failed", str(test.repr_failure(pytest.ExceptionInfo.from_current()))
    return "passed", ""
