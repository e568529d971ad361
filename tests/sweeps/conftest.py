"""Servers are forks of this process in some tests: they launch as from a program whose main thread is its only one."""

from __future__ import annotations

import pytest

from tests.helpers.batches import nobody_stays
from tests.helpers.forks import call_in_fork


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call tests of the server in a fork, where there is another thread."""
    return call_in_fork(pyfuncitem, nobody_stays) if pyfuncitem.path.stem == "test_kept_server" else None
