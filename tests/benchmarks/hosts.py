"""Processes on another host, over a stream, against those of a warm server here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping

import psutil

from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.transport import CommandTransport, host_command
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.waiting import AnyServer, wait
from elastic_hydra.sweeps.kept_server import PRELOAD
from tests.benchmarks.harness import interleave
from tests.benchmarks.report import Column, Table

COUNT = 25
SIZES = {"1 kB": 1_000, "1 MB": 1_000_000}
HOW = (
    f"{COUNT} processes, one after the other, each from the request until its outcome is read. The function gets and "
    "returns so many bytes. CPU time is that of the requester, the server and its processes and, with a stream, of the "
    "host process between them. Both servers are fresh interpreters on this machine that have imported torch; so what "
    "is measured is the host process and its messages, not ssh, srun or a network."
)


def same(data: bytes) -> bytes:
    """Return what it gets."""
    return data


def _connect() -> HostConnection:
    heard = Heard(lambda _: None, lambda _: None, lambda _: None)
    connection = HostConnection(CommandTransport(host_command()), Wanted.of({}, PRELOAD, 5.0, 60.0), heard)
    if not wait([connection], lambda: connection.state not in (State.coming, State.opening)) or connection.lost:
        raise RuntimeError(connection.fate)
    return connection


def _cpu(pids: list[int]) -> float:
    """Return the CPU seconds of processes and of those of their children that have ended."""
    return sum(sum(psutil.Process(pid).cpu_times()[:4]) for pid in pids)


def _run(server: AnyServer, pids: list[int], size: int) -> Mapping[str, float]:
    data = os.urandom(size)
    cpu, start = _cpu(pids), time.monotonic()
    for _ in range(COUNT):
        process = server.start(ProcessSpec(None, dict(os.environ), os.getcwd()), (same, (data,)))
        wait([server], lambda process=process: process.exitcode is not None)  # type: ignore[misc]
        outcome = process.outcome()
        if outcome is None or outcome.value != data:
            raise RuntimeError(f"a process has returned something else: {process}")
        server.forget([process])
    wall = time.monotonic() - start
    return {"time": wall / COUNT, "CPU": (_cpu(pids) - cpu) / COUNT}


def run(rounds: int | None) -> list[Table]:
    """Measure both ways."""
    with open_server("forkserver", {}, 5.0, preload=PRELOAD) as here, contextlib.closing(_connect()) as there:
        assert here.process is not None
        assert there.hello is not None
        host = there.hello.pid
        pids = {here: [here.process.pid], there: [host, psutil.Process(host).children()[0].pid]}
        servers: dict[str, AnyServer] = {"a server here": here, "over a stream": there}
        ways: dict[str, Callable[[], Mapping[str, float]]] = {
            f"{name}, {words}": lambda server=server, size=size: _run(server, [os.getpid(), *pids[server]], size)  # type: ignore[misc]
            for words, size in SIZES.items()
            for name, server in servers.items()
        }
        samples = interleave(ways, rounds or 5)
    columns = [Column(name, "ms", 1e-3, digits=1) for name in ("time", "CPU")]
    return [Table("hosts", "a process on another host, from the request to its outcome", HOW, columns, samples)]
