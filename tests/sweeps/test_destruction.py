"""Hosts and launchers are taken away at random: each job has one result, none is lost, and none runs twice at once."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

import pytest

from tests.helpers.destruction import KEYS, MORE_JOBS, SIZES, Destruction, Launcher, destruction_app

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ENGINE = "hydra.launcher.hosts.engine=tests.helpers.hosts_here"


@pytest.mark.parametrize("is_full", SIZES)
def test_hosts_that_are_killed_or_told_to_go_and_a_launcher_that_is_killed_cost_no_result(
    is_full: bool, tmp_path: Path
) -> None:
    mark, app = uuid.uuid4().hex, destruction_app(tmp_path)
    told, killed, resumed = (50, 20, 5) if is_full else (3, 2, 1)
    jobs = told + killed + resumed + MORE_JOBS
    environ = {"HOSTS_HERE": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    destruction = Destruction(tmp_path, mark, seed=14)
    launcher = Launcher(app, mark, [ENGINE, *KEYS, f"+x={','.join(map(str, range(jobs)))}"], environ)
    disasters = [*[destruction.tell_a_host] * told, *[destruction.kill_a_host] * killed]
    with contextlib.ExitStack() as stack:
        stack.callback(destruction.end)
        stack.callback(launcher.end)
        destruction.cause([*disasters, *[launcher.kill_the_launcher] * resumed], jobs, launcher.look)
        launcher.wait_for_success()
        destruction.check(jobs)
