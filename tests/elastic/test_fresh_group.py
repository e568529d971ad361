"""A restarted group of workers starts from nothing: with a fresh store, at the first try."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import Std

from elastic_hydra.elastic.logs import JobLogs
from tests.helpers.launching import launch, launch_failing

pytestmark = pytest.mark.system


def restarts() -> int:
    return int(os.environ["TORCHELASTIC_RESTART_COUNT"])


def dies_after_the_first_all_reduce(how: str, times: int = 1) -> int:
    dist.init_process_group("gloo")
    number = torch.ones(1)
    dist.all_reduce(number)
    if dist.get_rank() == 1 and restarts() < times:
        if how == "raises":
            raise RuntimeError("lost")
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(number)
    assert float(number) == 4.0
    return restarts()


@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_every_group_comes_through_on_its_first_restart(how: str) -> None:
    for _ in range(10):
        assert launch(dies_after_the_first_all_reduce, how, max_restarts=2) == {0: 1, 1: 1}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "is killed"])
def test_every_group_comes_through_on_its_first_restart_again_and_again(how: str) -> None:
    for _ in range(100):
        assert launch(dies_after_the_first_all_reduce, how, max_restarts=2) == {0: 1, 1: 1}


@pytest.mark.parametrize(
    "rendezvous",
    [
        {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"},
        {"rdzv_backend": "static", "rdzv_endpoint": "localhost:0", "rdzv_configs": {"rank": 0}},
    ],
    ids=["c10d", "static"],
)
def test_every_rendezvous_gives_a_fresh_store(rendezvous: dict[str, Any]) -> None:
    for _ in range(3):
        assert launch(dies_after_the_first_all_reduce, "is killed", max_restarts=2, **rendezvous) == {0: 1, 1: 1}


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_every_start_method_restarts(start_method: str) -> None:
    assert launch(dies_after_the_first_all_reduce, "raises", max_restarts=1, start_method=start_method) == {0: 1, 1: 1}


@pytest.mark.smoke
def test_a_script_restarts(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(
        textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parents[2])!r})
            from tests.elastic.test_fresh_group import dies_after_the_first_all_reduce
            print(dies_after_the_first_all_reduce("is killed"))
            """)
    )
    logs = JobLogs(tmp_path / "logs", Std.OUT)
    assert launch(sys.executable, "-u", str(path), max_restarts=2, logs_specs=logs) == {0: None, 1: None}
    for rank in (0, 1):
        output = (tmp_path / "logs" / "restart_1" / f"rank_{rank}" / "stdout.log").read_text()
        assert output.splitlines()[-1] == "1"  # torch 2.9's Gloo says something there too


def test_after_the_last_restart_the_last_failure_is_raised(tmp_path: Path) -> None:
    error = launch_failing(dies_after_the_first_all_reduce, "raises", 9, max_restarts=2, logs_specs=JobLogs(tmp_path))
    assert str(error.__cause__) == "lost"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["restart_0", "restart_1", "restart_2"]
    assert "restart_2" in error.get_first_failure()[1].error_file
