"""Who a process is, as it says itself."""

from __future__ import annotations

import os

import pytest

from elastic_hydra.supervisor import context
from elastic_hydra.supervisor.client import Client
from elastic_hydra.supervisor.context import Role
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server

pytestmark = pytest.mark.system


def described() -> tuple[Role, bool, bool, str]:
    here = context.current()
    return here.role, here.descends_from_launcher, here.connection is not None, str(here)


def told_by(server: Client, *, agent: bool) -> tuple[Role, bool, bool, str]:
    process = server.start(ProcessSpec(None, dict(os.environ), os.getcwd(), agent=agent), (described, ()))
    assert server.wait(lambda: process.exitcode is not None, 120.0)
    outcome = process.outcome()
    assert outcome is not None
    assert outcome.value[3].startswith(f"{outcome.value[0].value} (pid {process.pid}, child of ")
    told: tuple[Role, bool, bool, str] = outcome.value
    return told


def test_a_process_that_nobody_here_has_made_is_a_launcher() -> None:
    assert described()[:3] == (Role.launcher, False, False)
    assert str(context.current()).startswith(f"launcher (pid {os.getpid()}, ")


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_agents_and_workers_know_what_they_are(start_method: str) -> None:
    with open_server(start_method, {}, 5.0) as server:
        assert told_by(server, agent=True)[:3] == (Role.agent, start_method == "fork", True)
        assert told_by(server, agent=False)[:3] == (Role.worker, start_method == "fork", False)
    assert context.current().role is Role.launcher, "the launcher has not changed"
