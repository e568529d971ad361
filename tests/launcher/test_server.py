"""The warm server by itself: processes that are forked ahead."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from launching import wait_until_gone

from elastic_hydra.launcher.child import ProcessSpec, children_of
from elastic_hydra.launcher.processes import Process, Server


def spec(**settings: object) -> ProcessSpec:
    return ProcessSpec(None, dict(os.environ), os.getcwd(), **settings)  # type: ignore[arg-type]


def run(server: Server, count: int) -> list[Process]:
    processes = [server.start(spec(), (os.getpid, ())) for _ in range(count)]
    assert server.wait(lambda: all(process.exitcode is not None for process in processes), 30.0)
    return processes


def value(process: Process) -> object:
    outcome = process.outcome()
    assert outcome is not None
    return outcome.value


def server_pid(server: Server) -> int:
    assert server._pid is not None
    return server._pid


def prepared(server: Server, count: int) -> set[int]:
    server.prepare(count)
    server.clean()  # answered after what was asked before
    return children_of(server_pid(server))


def test_what_was_forked_ahead_is_what_is_started() -> None:
    with Server.open("warm", {}, 5.0) as server:
        ahead = prepared(server, 2)
        assert len(ahead) == 2
        assert prepared(server, 2) == ahead, "so many, not so many more"
        first, second, third = run(server, 3)
        assert {first.pid, second.pid} == ahead
        assert third.pid not in ahead
        assert [value(process) for process in (first, second, third)] == [first.pid, second.pid, third.pid]


def test_one_that_was_killed_while_it_waited_is_replaced() -> None:
    with Server.open("warm", {}, 5.0) as server:
        ahead = prepared(server, 2)
        victim = min(ahead)
        os.kill(victim, signal.SIGKILL)
        assert wait_until_gone([victim], 10.0) == []
        assert [value(process) is not None for process in run(server, 2)] == [True, True]


def test_those_that_were_not_needed_end_with_the_connection() -> None:
    with Server.open("warm", {}, 5.0) as server:
        ahead = prepared(server, 3)
    assert not [pid for pid in ahead if psutil.pid_exists(pid)]


@pytest.mark.parametrize("ahead", [0, 1])
def test_each_start_has_its_own_surroundings(ahead: int, tmp_path: Path) -> None:
    with Server.open("warm", {}, 5.0) as server:
        server.prepare(ahead)
        process = server.start(spec(umask=0o077, stdout=str(tmp_path / "out")), (print, ("hello",)))
        server.wait(lambda: process.exitcode is not None)
    assert (tmp_path / "out").read_text() == "hello\n"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
