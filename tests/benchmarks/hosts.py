"""What it costs that a host is another one: its processes, the jobs of a sweep, and the first of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psutil

from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.transport import CommandTransport, host_command
from elastic_hydra.hosts.wanted import Heard, Wanted
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.waiting import AnyServer, wait
from elastic_hydra.sweeps.kept_server import PRELOAD
from tests.benchmarks.harness import ROOT, interleave, run_command
from tests.benchmarks.report import Column, Table
from tests.benchmarks.sweeps import hydra, measured

COUNT = 25
SIZES = {"1 kB": 1_000, "1 MB": 1_000_000}
JOBS = 17
HOW = (
    f"{COUNT} processes, one after the other, each from the request until its outcome is read. The function gets and "
    "returns so many bytes. CPU time is that of the requester, the server and its processes and, with a stream, of the "
    "host process between them. Both servers are fresh interpreters on this machine that have imported torch; so what "
    "is measured is the host process and its messages, not ssh, srun or a network."
)
HOW_JOBS = (
    f"Whole sweeps of {JOBS} trivial jobs of one worker, one after the other, less one of one job, divided by "
    f"{JOBS - 1}: CPU time of all processes. The other host is a host process on this machine."
)
HOW_FIRST = (
    "A sweep of one job on one other host, a host process on this machine. `host`: from the start of its command until "
    "the workers of the first job are started, as the journal has it. Beside it, a fresh interpreter that imports "
    "torch, from its start to its end."
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


def _processes(rounds: int) -> Table:
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
        samples = interleave(ways, rounds)
    columns = [Column(name, "ms", 1e-3, digits=1) for name in ("time", "CPU")]
    return Table("hosts", "a process on another host, from the request to its outcome", HOW, columns, samples)


def _elsewhere(jobs: int) -> Callable[[Path], list[str]]:
    """Return the command of a sweep on one other host."""
    engine = ("hydra.launcher.hosts.engine=tests.helpers.hosts_here", "hydra.launcher.hosts.max=1")
    sweep = hydra("elastic", jobs, *engine)
    return lambda folder: ["env", f"HOSTS_HERE={folder}", f"PYTHONPATH={ROOT}", *sweep(folder)]


def _jobs(rounds: int) -> Table:
    ways: dict[str, Callable[[], Mapping[str, float]]] = {
        "at home": partial(measured, JOBS, hydra("elastic", JOBS), hydra("elastic", 1)),
        "on another host": partial(measured, JOBS, _elsewhere(JOBS), _elsewhere(1)),
    }
    samples = interleave(ways, rounds, warm_up=False)
    columns = [Column("each further job, CPU", "ms", 1e-3), Column("1 job, CPU", "s", digits=1)]
    title, of = "each further job of a sweep on another host", "each further job, CPU"
    return Table("hosts, jobs", title, HOW_JOBS, columns, samples, floor="at home", ratio_of=of)


def _first_job() -> Mapping[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    try:
        run_command(_elsewhere(1)(folder), folder)
        began = (folder / "n1.pid").stat().st_mtime
        lines = map(json.loads, (folder / "sweep" / "journal.jsonl").read_text().splitlines())
        (workers,) = (line["time"] for line in lines if line["event"] == "workers")
        torch = run_command([sys.executable, "-c", "import torch"], folder).wall
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"host": workers - began, "import torch": torch, "difference": workers - began - torch}


def run(rounds: int | None) -> list[Table]:
    """Measure processes, jobs, and the first job."""
    first = interleave({"the first job": _first_job}, rounds or 5)
    columns = [Column(name, "s", digits=2) for name in ("host", "import torch", "difference")]
    return [
        _processes(rounds or 5),
        _jobs(rounds or 5),
        Table("hosts, first job", "from the start of a host to its first job", HOW_FIRST, columns, first),
    ]
