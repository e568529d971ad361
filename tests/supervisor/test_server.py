"""The warm server by itself: processes that are forked ahead."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from elastic_hydra.supervisor.client import Client, Process, ServerLost
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.orphans import children_of
from tests.helpers.launching import wait_until_gone

pytestmark = pytest.mark.system


def spec(**settings: object) -> ProcessSpec:
    return ProcessSpec(None, dict(os.environ), os.getcwd(), **settings)  # type: ignore[arg-type]


def run(server: Client, count: int) -> list[Process]:
    processes = [server.start(spec(), (os.getpid, ())) for _ in range(count)]
    assert server.wait(lambda: all(process.exitcode is not None for process in processes), 30.0)
    return processes


def value(process: Process) -> object:
    outcome = process.outcome()
    assert outcome is not None
    return outcome.value


def server_pid(server: Client) -> int:
    assert server.process is not None
    return server.process.pid


def prepared(server: Client, count: int) -> set[int]:
    server.prepare(count)
    server.clean()  # answered after what was asked before
    return children_of(server_pid(server))


def test_what_was_forked_ahead_is_what_is_started() -> None:
    with open_server("warm", {}, 5.0) as server:
        ahead = prepared(server, 2)
        assert len(ahead) == 2
        assert prepared(server, 2) == ahead, "so many, not so many more"
        first, second, third = run(server, 3)
        assert {first.pid, second.pid} == ahead
        assert third.pid not in ahead
        assert [value(process) for process in (first, second, third)] == [first.pid, second.pid, third.pid]


def test_one_that_was_killed_while_it_waited_is_replaced() -> None:
    with open_server("warm", {}, 5.0) as server:
        ahead = prepared(server, 2)
        victim = min(ahead)
        os.kill(victim, signal.SIGKILL)
        assert wait_until_gone([victim], 10.0) == []
        assert [value(process) is not None for process in run(server, 2)] == [True, True]


def test_those_that_were_not_needed_end_with_the_connection() -> None:
    with open_server("warm", {}, 5.0) as server:
        ahead = prepared(server, 3)
    assert not [pid for pid in ahead if psutil.pid_exists(pid)]


@pytest.mark.parametrize("ahead", [0, 1])
def test_each_start_has_its_own_surroundings(ahead: int, tmp_path: Path) -> None:
    with open_server("warm", {}, 5.0) as server:
        server.prepare(ahead)
        process = server.start(spec(umask=0o077, stdout=str(tmp_path / "out")), (print, ("hello",)))
        server.wait(lambda: process.exitcode is not None)
    assert (tmp_path / "out").read_text() == "hello\n"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_server_that_is_killed_with_requests_unread_is_lost_and_no_error_of_a_connection() -> None:
    with open_server("warm", {}, 5.0) as server:
        pid = server_pid(server)
        os.kill(pid, signal.SIGSTOP)
        processes = [server.start(spec(), (os.getpid, ())) for _ in range(3)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServerLost):
            server.wait(lambda: False, 30.0)
        assert {process.exitcode for process in processes} == {-signal.SIGKILL}


def lose_the_server(path: str) -> None:
    with open_server("warm", {}, 5.0) as client, open(path, "wb", buffering=0) as said:
        client.sock.shutdown(socket.SHUT_RD)
        said.write(b"begun ")
        with pytest.raises(ServerLost):
            client.wait(lambda: False)
        said.write(b"heard of it")


def test_an_agent_that_hears_of_its_servers_death_before_its_own_decides_nothing_meanwhile() -> None:
    readable, written = os.pipe()
    with open_server("warm", {}, 5.0) as server:
        path = f"/proc/{os.getpid()}/fd/{written}"
        agent = server.start(spec(agent=True), (lose_the_server, (path,)))
        assert os.read(readable, 64) == b"begun "
        assert select.select([readable], [], [], 1.0)[0] == [], "it goes on although its death is near"
        os.kill(server_pid(server), signal.SIGKILL)
        with pytest.raises(ServerLost):
            server.wait(lambda: False, 30.0)
        assert agent.exitcode == -signal.SIGKILL
    os.close(written)
    assert os.read(readable, 64) == b""
    os.close(readable)


def escape(path: str, stay: bool) -> None:
    """Start a program that bears no mark of ours, and be a process that does not die with its parent."""
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
    subprocess.run(["setsid", "env", "-i", "sh", "-c", f"sleep 600 & echo $! > {path}.new; mv {path}.new {path}"])
    while stay:
        time.sleep(600)


def left_by(path: Path) -> int:
    while not path.exists():
        time.sleep(0.01)
    return int(path.read_text())


def test_nothing_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    mine = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open_server("warm", {}, 5.0) as server:
        worker = server.start(spec(), (escape, (str(tmp_path / "pid"), True)))
        server.wait(lambda: worker.pid is not None)
        assert worker.pid is not None
        pids = [worker.pid, left_by(tmp_path / "pid")]
        os.kill(server_pid(server), signal.SIGKILL)
        with pytest.raises(ServerLost):
            server.wait(lambda: False, 30.0)
        assert wait_until_gone(pids, 0.0) == []
        assert mine.poll() is None, "a process that the server has not started"
    mine.kill()
    mine.wait()


def test_a_program_without_any_mark_is_ended_with_what_it_was_started_by(tmp_path: Path) -> None:
    with open_server("warm", {}, 5.0) as server:
        longer = server.start(spec(), (time.sleep, (600,)))
        server.wait(lambda: longer.pid is not None)
        early = server.start(spec(), (escape, (str(tmp_path / "early"), False)))
        server.wait(lambda: early.exitcode is not None)
        server.clean()
        assert wait_until_gone([left_by(tmp_path / "early")], 0.0) != [], "it may be the one's that still runs"
        server.stop([longer], signal.SIGTERM, 30.0)
        server.clean()
        assert wait_until_gone([left_by(tmp_path / "early")], 10.0) == []
