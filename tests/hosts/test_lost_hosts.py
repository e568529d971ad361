"""Hosts, servers, launchers and streams that are gone or silent: what is known then, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from elastic_hydra import timeouts
from elastic_hydra.hosts.connection import HostConnection, State, close_all
from elastic_hydra.hosts.srun import SrunTransport
from elastic_hydra.hosts.transport import CommandTransport, Ended, host_command
from elastic_hydra.journal.host_record import HostRecord
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import ServerLost, wait
from tests.helpers.launching import wait_until_gone
from tests.helpers.relay import relayed
from tests.hosts.hosts import PATIENCE, await_end, connect, is_there, start

pytestmark = pytest.mark.system


class Relay(CommandTransport):
    def __init__(self) -> None:
        super().__init__(relayed(host_command()), name="relay")

    def signal(self, number: int) -> None:
        assert self._program is not None
        os.kill(self._program.pid, number)


class KnowsTheEnd(CommandTransport):
    """Says that the host process has ended when it has: here, it is the program itself."""

    def ended(self) -> Ended | None:
        ended = super().ended()
        return None if ended is None else replace(ended, host_is_gone=True)


def work(ready: str) -> None:
    """Run until somebody ends it, and leave a process behind that has left its session and its parent."""
    subprocess.run(["setsid", "sh", "-c", "sleep 600 & echo $! > $0.child", ready], check=True)
    Path(ready).touch()
    while True:
        signal.pause()


def launch(ready: str) -> None:
    """Be a launcher that waits for ever."""
    connection = connect()
    assert is_there(connection), connection.fate
    start(connection, work, ready)
    wait([connection], lambda: False)


def busy(connection: HostConnection, ready: Path) -> tuple[Process, list[int]]:
    """Start what runs for ever; return its process, and the ids of all processes of that host."""
    process = start(connection, work, str(ready))
    while not ready.exists():
        wait([connection], lambda: False, 0.05)
        if connection.lost:
            raise ServerLost(connection.fate)
    assert connection.hello is not None
    host = psutil.Process(connection.hello.pid)
    pids = [host.pid, *(child.pid for child in host.children(recursive=True))]
    orphan = int(Path(f"{ready}.child").read_text())
    assert {process.pid, orphan} <= set(pids)
    return process, pids


@contextlib.contextmanager
def patient(connection: HostConnection) -> Iterator[HostConnection]:
    with contextlib.closing(connection):
        assert is_there(connection), connection.fate
        yield connection


def server_of(pid: int | None) -> int:
    return psutil.Process(pid).ppid()


def await_loss(connection: HostConnection, process: Process) -> None:
    """Wait until a host is given up: its process counts as running until it is certain that it does not."""
    assert wait([connection], lambda: connection.lost, PATIENCE)
    assert (process.exitcode is None) == (connection.state is State.doubtful)


def test_all_ends_with_the_launcher(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"from {__name__} import launch; launch({str(ready)!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as launcher:
        while not ready.exists():
            assert launcher.poll() is None
            time.sleep(0.05)
        pids = [child.pid for child in psutil.Process(launcher.pid).children(recursive=True)]
        assert int(Path(f"{ready}.child").read_text()) in pids
        launcher.kill()
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_host_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    with patient(connect(KnowsTheEnd(host_command(), name="n7"))) as connection:
        process, pids = busy(connection, tmp_path / "ready")
        os.kill(pids[0], signal.SIGKILL)
        await_loss(connection, process)
        with pytest.raises(ServerLost, match="was lost: its stream has ended without a farewell"):
            start(connection, os.getpid)
        await_end(connection, process)
        assert process.exitcode == -signal.SIGKILL
        assert process.fate == connection.fate
        assert process.fate.startswith(f"host {os.uname().nodename} was lost: its stream has ended without a farewell")
        assert "signal 9 killed it" in process.fate
        with pytest.raises(ServerLost):
            connection.pump()
    assert wait_until_gone(pids, PATIENCE) == []


class Impatient(CommandTransport):
    """Somebody presses Ctrl-C for the second time while the end of the program is waited for."""

    def _await_end(self, _: float) -> None:
        raise KeyboardInterrupt


def test_a_second_ctrl_c_leaves_no_way_to_a_host_behind() -> None:
    ways = [Impatient(["sh", "-c", "trap '' TERM; echo; sleep 600; exit"]) for _ in range(2)]
    connections = [connect(way) for way in ways]
    pids = [child.pid for child in psutil.Process().children() if child.name() == "sh"]
    assert len(pids) == 2
    with pytest.raises(KeyboardInterrupt):
        close_all(connections)
    assert wait_until_gone(pids, PATIENCE) == []


class Stubborn(CommandTransport):
    """A program that does not end when it is told to."""

    def __init__(self, said: list[str], name: str) -> None:
        super().__init__(["sh", "-c", "trap '' TERM; echo; sleep 600; exit"], name=name)
        self._said = said

    def terminate(self) -> None:
        self._said.append(f"told {self.name}")
        super().terminate()

    def _await_end(self, timeout: float) -> None:
        self._said.append(f"awaited {self.name}")
        super()._await_end(timeout)


def test_all_ways_to_hosts_are_told_to_end_before_the_end_of_one_is_waited_for() -> None:
    said: list[str] = []
    close_all([connect(Stubborn(said, name)) for name in ("n1", "n2", "n3")])
    assert said[:3] == ["told n1", "told n2", "told n3"]
    assert [words for words in said if "awaited" in words] == ["awaited n1", "awaited n2", "awaited n3"]


def wait_in_queue(ready: str, heard: str) -> None:
    """Be a launcher that waits for srun, which here is a shell."""
    script = f"trap 'touch {heard}; exit' INT; touch {ready}; while :; do sleep 0.1; done"
    wait([connect(SrunTransport(["sh", "-c", script], dict(os.environ), "srun", {}))], lambda: False)


def test_an_srun_that_waits_in_the_queue_hears_that_its_launcher_was_killed(tmp_path: Path) -> None:
    ready, heard = tmp_path / "ready", tmp_path / "heard"
    code = f"from {__name__} import wait_in_queue; wait_in_queue({str(ready)!r}, {str(heard)!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as launcher:
        await_file(ready)
        launcher.kill()
    await_file(heard)


def await_file(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_words_of_somebody_else_in_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    script = f"{shlex.join(host_command())}\necho the script that a site runs after each task"
    with patient(connect(KnowsTheEnd(["sh", "-c", script]))) as connection:
        process, pids = busy(connection, tmp_path / "ready")
        os.kill(pids[0], signal.SIGKILL)
        assert wait([connection], lambda: connection.lost, PATIENCE)
        assert (connection.state, process.exitcode) == (State.doubtful, None)
        await_end(connection, process)
        assert "was lost: a message of" in process.fate
        assert wait_until_gone(pids, PATIENCE) == []


def test_a_server_that_is_killed(tmp_path: Path) -> None:
    with patient(connect()) as connection:
        process, pids = busy(connection, tmp_path / "ready")
        server = server_of(process.pid)
        os.kill(server, signal.SIGKILL)
        await_end(connection, process)
        assert process.exitcode == -signal.SIGKILL
        assert f"has ended: the warm server (pid {server})" in process.fate
        assert connection.state is State.ended
        assert wait_until_gone([pid for pid in pids if pid != pids[0]], 0.0) == [], "the farewell says so"
    assert wait_until_gone(pids, PATIENCE) == []


def busy_behind_relay(
    folder: Path, *, silence: float, timeout: float
) -> tuple[Relay, HostConnection, Process, list[int]]:
    """Do what `busy` does behind a relay, with deadlines so short that a busy machine may miss them at first."""
    for number in itertools.count():
        relay = Relay()
        connection = connect(relay, silence=silence, timeout=timeout)
        if is_there(connection):
            with contextlib.suppress(ServerLost, psutil.Error):
                return relay, connection, *busy(connection, folder / f"ready{number}")
        connection.close()
    raise AssertionError


def test_a_stream_that_is_cut_without_a_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    relay, connection, process, pids = busy_behind_relay(tmp_path, silence=8.0, timeout=1.0)
    with contextlib.closing(connection):
        relay.signal(signal.SIGSTOP)
        await_loss(connection, process)
        await_end(connection, process)
        assert "was lost: no sign of life for 8 s (hydra.launcher.hosts.silence)" in process.fate
        assert wait_until_gone(pids, PATIENCE) == []


def test_a_host_process_that_somebody_has_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    _, connection, process, pids = busy_behind_relay(tmp_path, silence=8.0, timeout=1.0)
    with contextlib.closing(connection):
        os.kill(pids[0], signal.SIGSTOP)
        await_loss(connection, process)
        assert wait_until_gone(pids[1:], PATIENCE) == [], "its server ends everything by itself"
        os.kill(pids[0], signal.SIGCONT)
        await_end(connection, process)
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_stream_that_comes_back_too_late(tmp_path: Path) -> None:
    relay, connection, process, pids = busy_behind_relay(tmp_path, silence=8.0, timeout=10 * PATIENCE)
    with contextlib.closing(connection):
        relay.signal(signal.SIGSTOP)
        await_loss(connection, process)
        relay.signal(signal.SIGCONT)
        await_end(connection, process)
        assert connection.state is State.ended, "it has said farewell, long before that had to be certain"
        assert "was lost: no sign of life for 8 s (hydra.launcher.hosts.silence); it has ended: " in process.fate
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_short_cut_does_no_harm() -> None:
    relay = Relay()
    with patient(connect(relay)) as connection:
        relay.signal(signal.SIGSTOP)
        process = start(connection, os.getpid)
        wait([connection], lambda: False, 0.5)
        assert process.exitcode is None
        relay.signal(signal.SIGCONT)
        await_end(connection, process)
        assert process.exitcode == 0


def test_a_host_that_is_stopped_does_not_block_the_launcher() -> None:
    with patient(connect()) as connection:
        assert connection.hello is not None
        os.kill(connection.hello.pid, signal.SIGSTOP)
        processes = [start(connection, len, b"\n" * 5_000_000) for _ in range(5)]
        wait([connection], lambda: False, 0.1)
        os.kill(connection.hello.pid, signal.SIGCONT)
        await_end(connection, *processes)
        assert [process.exitcode for process in processes] == [0] * 5


def test_a_host_that_is_told_to_end_and_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_FAREWELL", 0.5)
    with patient(connect()) as connection:
        assert connection.hello is not None
        pids = [connection.hello.pid]
        os.kill(connection.hello.pid, signal.SIGSTOP)
        connection.begin_closing()
        with pytest.raises(ServerLost, match="not any more"):
            start(connection, os.getpid)
        deadline = connection.next_deadline()
        assert deadline is not None
        wait([connection], lambda: connection.state is not State.ready, PATIENCE)
        assert time.monotonic() >= deadline
        assert connection.state is State.ended
        assert connection.fate.endswith("was lost: it was told to end, and has not said that it has")
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_connection_that_is_closed_ends_what_runs(tmp_path: Path) -> None:
    with patient(connect()) as connection:
        process, pids = busy(connection, tmp_path / "ready")
    assert wait_until_gone(pids, PATIENCE) == []
    assert process.exitcode == -signal.SIGKILL
    assert "has ended: the launcher needs it no more" in process.fate


def test_the_record_of_a_host_is_there_as_long_as_something_may_run_there(tmp_path: Path) -> None:
    record = HostRecord(tmp_path / "journal.jsonl")
    with patient(connect(host_record=record)) as connection:
        _, pids = busy(connection, tmp_path / "ready")
        assert Path(record.path).exists()
    assert not Path(record.path).exists()
    assert wait_until_gone(pids, PATIENCE) == []


def test_the_record_of_a_host_whose_end_is_not_awaited_stays(tmp_path: Path) -> None:
    record = HostRecord(tmp_path / "journal.jsonl")
    with patient(connect(host_record=record)) as connection:
        _, pids = busy(connection, tmp_path / "ready")
        os.kill(pids[0], signal.SIGSTOP)
        connection.finish_closing()
    assert Path(record.path).exists()
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_host_that_cannot_be_noted_is_not_used(tmp_path: Path) -> None:
    connection = connect(host_record=HostRecord(tmp_path / "no such folder" / "journal.jsonl"))
    assert not is_there(connection)
    assert "that jobs run there cannot be noted for other launchers: [Errno 2]" in connection.fate
