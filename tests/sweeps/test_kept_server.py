"""The warm server over the batches of a sweep: one for all, replaced when it is lost, gone with the sweep."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from elastic_hydra.jobs import task as sweep_task
from elastic_hydra.supervisor import entry, server
from tests.helpers.apps import App
from tests.helpers.batches import launch, nobody_stays, sweep

pytestmark = pytest.mark.system

LATE = "colorsys"
"""A module that nothing else imports."""


def server_pid(_: Any) -> int:
    return os.getppid()


def was_imported(_: Any) -> tuple[int, bool]:
    before = LATE in sys.modules
    __import__(LATE)
    return os.getppid(), before


def value(returns: list[Any]) -> Any:
    (job,) = returns
    return job.return_value


@pytest.fixture(autouse=True)
def checked() -> Iterator[None]:
    with nobody_stays():
        yield


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.smoke
def test_batches_share_one_server_which_ends_with_the_sweep(tmp_path: Path) -> None:
    with sweep(server_pid, tmp_path) as launch_batch:
        first = value(launch_batch(["+x=1"]))
        assert value(launch_batch(["+x=2"])) == first
        assert psutil.pid_exists(first)
    del launch_batch
    gc.collect()
    assert not psutil.pid_exists(first)


def test_a_server_that_is_lost_between_batches_is_replaced_and_knows_what_it_had_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_task, "_IMPORTED_LATE", (LATE,))
    monkeypatch.delitem(sys.modules, LATE, raising=False)  # another test's library may have imported it
    with sweep(was_imported, tmp_path) as launch_batch:
        first, before = value(launch_batch(["+x=1"]))
        assert not before
        assert value(launch_batch(["+x=2"])) == (first, True)
        kill(first)
        second, before = value(launch_batch(["+x=3"]))
        assert second != first
        assert before
    del launch_batch


def test_what_a_sweeper_starts_between_batches_is_not_taken_for_the_servers(tmp_path: Path) -> None:
    with sweep(server_pid, tmp_path) as launch_batch:
        first = value(launch_batch(["+x=1"]))
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as dashboard:
            kill(first)
            assert value(launch_batch(["+x=2"])) != first
            assert dashboard.poll() is None
            dashboard.kill()
    del launch_batch


def test_an_app_whose_sweeper_launches_one_job_at_a_time_ends_and_leaves_nobody(tmp_path: Path) -> None:
    app = App(tmp_path, "print('server', os.getppid())")
    finished = app.run("+x=1,2,3", "hydra.sweeper.max_batch_size=1", "hydra/launcher/logs=all")  # nobody is left
    assert finished.returncode == 0, finished.output
    servers = re.findall(r"server (\d+)", finished.output)
    assert len(servers) == 3
    assert len(set(servers)) == 1, finished.output


def dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("break_it", ["at its start", "when a job is to start"])
def test_servers_that_die_again_and_again_are_a_reason(
    break_it: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if break_it == "at its start":
        monkeypatch.setattr(server, "become_server", dies)
        monkeypatch.setattr(entry, "interpreter", lambda _: [sys.executable, "-c", "raise SystemExit(9)"])
        expected: Callable[[str], bool] = lambda text: "no warm server could be started" in text  # noqa: E731
    else:
        monkeypatch.setattr(server.Server, "_serve", dies)
        expected = lambda text: "warm server" in text  # noqa: E731
    (job,) = launch(server_pid, tmp_path)
    with pytest.raises(RuntimeError) as caught:
        _ = job.return_value
    assert expected(str(caught.value)), caught.value
