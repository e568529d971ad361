"""A worker that has returned stays until all workers of its node have."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch.distributed import TCPStore

from elastic_hydra.config.watch import Action, WatchConfig
from elastic_hydra.worker import heartbeat
from tests.helpers.launching import START_METHODS, launch, launch_failing

pytestmark = pytest.mark.system

_KEPT: list[Any] = []
"""What stays until a process ends."""


def _is_done_first(folder: str) -> bool:
    """Have rank 0 host a store and finish; on rank 1, whether that store still serves a while after."""
    if os.environ["RANK"] == "0":
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        _KEPT.append(store)
        Path(folder, "port.new").write_text(f"{store.port} {os.getpid()}")
        Path(folder, "port.new").rename(Path(folder, "port"))
        return True
    while not Path(folder, "port").exists():
        heartbeat()
    port, pid = map(int, Path(folder, "port").read_text().split())
    other = os.pidfd_open(pid)
    has_ended, _, _ = select.select([other], [], [], 1.0)
    return not has_ended and TCPStore("127.0.0.1", port, is_master=False).check(["nothing"]) is False


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_that_is_done_stays_until_all_of_its_node_are(start_method: str, tmp_path: Path) -> None:
    assert launch(_is_done_first, str(tmp_path), start_method=start_method) == {0: True, 1: True}


@pytest.mark.smoke
def test_a_worker_that_is_done_does_not_hang(tmp_path: Path) -> None:
    watch = WatchConfig(progress_limit=2.0, progress=["heartbeat"], action=Action.fail)
    assert launch(_is_done_at_once, str(tmp_path), watch=watch) == {0: 0, 1: 1}


def _is_done_at_once(folder: str) -> int:
    if os.environ["RANK"] == "1":
        never = os.pidfd_open(os.getpid())
        for _ in range(30):  # longer than the limit
            heartbeat()
            select.select([never], [], [], 0.1)
    return int(os.environ["RANK"])


def _never_ends() -> None:
    atexit.register(os.kill, os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_has_returned_and_does_not_end_hangs_as_any_other(workers: int) -> None:
    watch = WatchConfig(progress_limit=0.5, progress=["heartbeat", "output"], action=Action.fail)
    error = launch_failing(_never_ends, workers=workers, watch=watch)
    assert "stopped by a signal" in str(error.verdict and error.verdict.failure.reason)


def _leaves_its_peer() -> None:
    dist.init_process_group("gloo")
    if os.environ["RANK"] == "1":
        sys.exit(0)
    dist.barrier()


def test_a_worker_that_leaves_by_exit_is_gone_at_once() -> None:
    error = launch_failing(_leaves_its_peer)
    assert "rank 1" in str(error.verdict and error.verdict.failure.reason)


def _is_done_and_hears(folder: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    if os.environ["RANK"] == "1":
        while not Path(folder, "done").exists():
            heartbeat()
        raise ValueError("a mistake")
    atexit.register(Path(folder, "left").touch)
    Path(folder, "done").touch()


def test_a_worker_that_is_done_leaves_in_order_when_another_fails(tmp_path: Path) -> None:
    launch_failing(_is_done_and_hears, str(tmp_path), shutdown_timeout=60)
    assert (tmp_path / "left").exists()
