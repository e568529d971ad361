"""Processes on another host: a host process on this machine, behind its standard input and output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_hydra.hosts.connection import HostConnection
from elastic_hydra.supervisor.forked import EXIT_CANNOT_START, ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import AnyServer, stop, wait
from tests.hosts.hosts import PATIENCE, Record, await_end, connect, is_there, start

pytestmark = pytest.mark.system


def value(process: Process) -> object:
    outcome = process.outcome()
    assert outcome is not None
    assert outcome.error is None, outcome.error
    return outcome.value


def add(one: object, other: object) -> tuple[object, int]:
    return (one, other), os.getpid()


def raise_key_error() -> None:
    raise KeyError("no such thing")


def sleep_for_ever(ready: str) -> None:
    Path(ready).touch()
    while True:
        signal.pause()


def ignore_sigterm(ready: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep_for_ever(ready)


def is_imported(module: str) -> bool:
    return module in sys.modules


def wait_for_files(server: AnyServer, names: list[str]) -> None:
    while not all(os.path.exists(name) for name in names):
        wait([server], lambda: False, 0.05)


def spec_of(environment: dict[str, str]) -> ProcessSpec:
    return ProcessSpec(None, environment, os.getcwd())


def launch_workers(count: int) -> list[object]:
    """Be an agent: start workers by a connection of one's own."""
    with open_server("warm", {}, 5.0) as server:
        spec = ProcessSpec(None, dict(os.environ), os.getcwd())
        workers = [server.start(spec, (add, (number, os.getpid()))) for number in range(count)]
        assert server.wait(lambda: all(worker.exitcode is not None for worker in workers), PATIENCE)
        return [value(worker) for worker in workers]


def write_an_event(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b'{"event": 1}\n')
    os.write(fd, b"half a line")
    os.close(fd)
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)


@contextlib.contextmanager
def host(record: Record | None = None) -> Iterator[HostConnection]:
    with contextlib.closing(connect(record=record)) as connection:
        assert is_there(connection), connection.fate
        yield connection


def test_functions_run_there_and_what_they_return_comes_here() -> None:
    data = bytes(range(256)) * 20_000
    with host() as connection:
        small, large = start(connection, add, 1, "two"), start(connection, add, data, data)
        await_end(connection, small, large)
        assert (small.exitcode, large.exitcode) == (0, 0)
        assert value(small) == ((1, "two"), small.pid)
        assert value(large) == ((data, data), large.pid)
        assert abs(small.exit_time - time.time()) < 60.0
        connection.forget([small, large])
    assert connection.fate == f"host {os.uname().nodename} has ended: the launcher needs it no more"


def test_an_exception_comes_with_its_frames() -> None:
    with host() as connection:
        failed = start(connection, raise_key_error)
        await_end(connection, failed)
        outcome = failed.outcome()
        assert failed.exitcode == 1
        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.type_name == "KeyError"
        assert "in raise_key_error" in outcome.error.text


def test_a_program_and_what_cannot_be_started() -> None:
    with host() as connection:
        spec = ProcessSpec([sys.executable, "-c", "exit(3)"], dict(connection.environment), os.getcwd())
        program = connection.start(spec)
        nowhere = connection.start(ProcessSpec(None, {}, "/no/such/directory"), (add, (1, 2)))
        await_end(connection, program, nowhere)
        assert (program.exitcode, nowhere.exitcode) == (3, EXIT_CANNOT_START)


def test_a_signal_reaches_only_those_that_it_is_for(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("one", "other")]
    with host() as connection:
        one, other = (start(connection, sleep_for_ever, name) for name in names)
        wait_for_files(connection, names)
        connection.signal([one], signal.SIGTERM)
        await_end(connection, one)
        assert one.exitcode == -signal.SIGTERM
        connection.signal([one, other], signal.SIGKILL)
        await_end(connection, other)
        assert other.exitcode == -signal.SIGKILL


def test_those_on_several_servers_are_stopped_at_once(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("there", "here")]
    with host() as there, open_server("warm", {}, 1.0) as here:
        processes: dict[AnyServer, list[Process]] = {
            there: [start(there, sleep_for_ever, names[0])],
            here: [here.start(spec_of(dict(os.environ)), (ignore_sigterm, (names[1],)))],
        }
        wait_for_files(there, names)
        assert stop(processes, signal.SIGTERM, 0.5) == []
        assert processes[there][0].exitcode == -signal.SIGTERM
        assert processes[here][0].exitcode == -signal.SIGKILL


def test_modules_are_imported_ahead() -> None:
    with host() as connection:
        before = start(connection, is_imported, "turtledemo")
        await_end(connection, before)
        connection.preload(["turtledemo"])
        connection.prepare(1)
        after = start(connection, is_imported, "turtledemo")
        await_end(connection, after)
        assert (value(before), value(after)) == (False, True)


def test_an_agent_there_starts_workers_there() -> None:
    with host() as connection:
        agent = start(connection, launch_workers, 2, agent=True)
        await_end(connection, agent)
        workers = value(agent)
        assert isinstance(workers, list)
        assert [pair for pair, _ in workers] == [(0, agent.pid), (1, agent.pid)]


def test_events_come_before_the_end_of_their_writer_and_its_output_to_the_console() -> None:
    record = Record()
    with host(record) as connection:
        process = start(connection, write_an_event, connection.journal_path)
        await_end(connection, process)
        assert b"".join(record.lines) == b'{"event": 1}\n', "half a line does not come"
        assert wait([connection], lambda: len(record.console) > 1, PATIENCE)
    assert record.console == ["to standard output", "to standard error"]


def test_the_environment_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK_OF_THE_LAUNCHER", "here")
    monkeypatch.setenv("SLURM_PROCID", "0")
    with host() as connection:
        process = start(connection, os.getcwd)
        await_end(connection, process)
        assert value(process) == os.getcwd()
        assert connection.environment["MARK_OF_THE_LAUNCHER"] == "here"
        assert "SLURM_PROCID" not in connection.environment


def test_a_signal_to_the_host_process_is_told_and_not_obeyed() -> None:
    record = Record()
    with host(record) as connection:
        assert connection.hello is not None
        os.kill(connection.hello.pid, signal.SIGTERM)
        assert wait([connection], lambda: bool(record.told), PATIENCE)
        assert record.told == [signal.SIGTERM]
        process = start(connection, add, 1, 2)
        await_end(connection, process)
        assert process.exitcode == 0


def test_the_difference_of_the_clocks_is_known() -> None:
    with host() as connection:
        process = start(connection, time.monotonic)
        before = time.monotonic()
        await_end(connection, process)
        there = value(process)
        assert isinstance(there, float)
        assert before - 60.0 < there - connection.clock_offset < time.monotonic() + 60.0
        assert abs(connection.wall_offset) < 60.0


def test_the_host_process_imports_neither_torch_nor_hydra() -> None:
    code = "import sys; import elastic_hydra.hosts.host_process; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "hydra", "omegaconf", "numpy"}.intersection(said)
