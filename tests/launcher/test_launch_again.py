"""A launch at an endpoint where an earlier one has failed, as in a notebook, which keeps the last exception."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.launching import launch

pytestmark = pytest.mark.system


def rank() -> int:
    return int(os.environ["RANK"])


def fail() -> None:
    raise ValueError("a mistake in this cell")


def _fails_in_a_worker(settings: dict[str, Any]) -> None:
    launch(fail, **settings)


def _fails_to_meet(settings: dict[str, Any]) -> None:
    # The second node never comes.
    configs = {**settings["rdzv_configs"], "timeout": 1, "join_timeout": 1}
    launch(rank, **{**settings, "nodes": 2, "rdzv_configs": configs})


@pytest.mark.parametrize("failing", [_fails_in_a_worker, _fails_to_meet])
@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_a_failed_launch_leaves_its_endpoint_to_the_next(
    backend: str, failing: Callable[[dict[str, Any]], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
    settings = {"rdzv_backend": backend, "rdzv_endpoint": endpoint, "rdzv_configs": {"rank": 0}, "run_id": "none"}
    kept = []
    for _ in range(2):
        with pytest.raises(Exception) as caught:
            failing(settings)
        kept.append(caught)
        assert launch(rank, **settings) == {0: 0, 1: 1}
