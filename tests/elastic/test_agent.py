"""What the agent must never take for success, and how it looks at its workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from torch.distributed.elastic.agent.server import local_elastic_agent
from torch.distributed.elastic.agent.server.api import RunResult, WorkerState
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousGracefulExitError

from elastic_hydra import elastic_launch, launch_agent
from elastic_hydra.elastic.agent import ElasticAgent
from elastic_hydra.elastic.rendezvous.local import LocalRendezvous
from tests.helpers.launching import config, end_at_once, launch, launch_failing

pytestmark = pytest.mark.system


def rank() -> int:
    return int(os.environ["RANK"])


def wait_for_ever() -> None:
    while True:
        signal.pause()


has_state_reader = pytest.mark.skipif(
    not hasattr(local_elastic_agent, "read_proc_state"),
    reason="torch 2.13 and newer watch for processes stuck in the kernel",
)


@has_state_reader
@pytest.mark.parametrize("max_restarts", [0, 2])
def test_a_group_that_hangs_in_the_kernel_has_failed(max_restarts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_elastic_agent, "read_proc_state", lambda pid: "D")
    monkeypatch.setenv("TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT", "0.2")
    error = launch_failing(wait_for_ever, max_restarts=max_restarts)
    assert sorted(error.failures) == [0, 1]
    assert "hangs in the kernel" in str(error)


@pytest.mark.smoke
def test_an_unhealthy_group_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ElasticAgent, "_monitor_workers", lambda *_: RunResult(state=WorkerState.UNHEALTHY))
    error = launch_failing(rank)
    assert sorted(error.failures) == [0, 1]
    assert "hangs in the kernel" in str(error)


def test_a_job_that_runs_without_this_node_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(_: LocalRendezvous) -> Any:
        raise RendezvousGracefulExitError

    monkeypatch.setattr(LocalRendezvous, "next_rendezvous", leave)
    with pytest.raises(RendezvousGracefulExitError, match="runs without this node"):
        launch(rank)


@pytest.mark.parametrize(
    ("raised", "closed"),
    [
        (lambda: RuntimeError("agent"), True),
        (lambda: RendezvousConnectionError("store"), True),
        (lambda: SignalException("stop", signal.SIGTERM), False),
    ],
    ids=["any", "rendezvous", "signal"],
)
def test_an_error_of_the_agent_is_raised_as_it_is(
    raised: Callable[[], Exception], closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut_down: list[str] = []
    error = raised()
    original = LocalRendezvous.shutdown

    def shutdown(self: LocalRendezvous) -> bool:
        shut_down.append("shutdown")
        return original(self)

    def fail(_: ElasticAgent) -> Any:
        raise error

    monkeypatch.setattr(ElasticAgent, "_wait", fail)
    monkeypatch.setattr(LocalRendezvous, "shutdown", shutdown)
    with pytest.raises(type(error)) as caught:
        launch(rank)
    assert caught.value is error
    assert bool(shut_down) == closed, "other nodes go on when this one gets a signal"


@pytest.mark.smoke
def test_the_end_of_a_job_is_seen_at_once() -> None:
    # The agent's next look would come after the end of the time that a test has.
    launch(rank, monitor_interval=3600.0)
    launch_failing(end_at_once, 1, monitor_interval=3600.0)


def test_the_end_of_a_job_is_seen_at_once_by_a_group_that_can_grow() -> None:
    settings: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "monitor_interval": 3600.0}
    assert elastic_launch(config(**settings), rank)() == {0: 0, 1: 1}


@pytest.mark.smoke
def test_a_worker_may_launch(tmp_path: Any) -> None:
    assert launch(launch_inside, workers=1) == {0: {0: 0, 1: 1}}


def launch_inside() -> dict[int, Any]:
    return launch_agent(config(), rank, [])
