"""Launches here are made as from any program, whose main thread is its only one."""

from __future__ import annotations

import pytest

from tests.helpers.forks import call_in_fork


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call each test in a fork, where there is another thread."""
    return call_in_fork(pyfuncitem)
