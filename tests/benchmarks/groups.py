"""One group of two gloo workers: start, meet, reduce once, part, end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.launcher import api as torch_api

from elastic_hydra import LaunchConfig, elastic_launch
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

WORKERS = 2
TORCHS_RENDEZVOUS: Any = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
HOW = (
    "A warm process (torch, Hydra and elastic_hydra are imported) forks one for each measurement, which then starts a "
    f"group of {WORKERS} workers; each worker runs init_process_group('gloo'), one all_reduce, and "
    "destroy_process_group. `first line`: until the function of the last worker begins; `group ready`: until the last "
    "one has left init_process_group; `tail`: from the last one's destroy_process_group to the caller's next line; "
    "`CPU`: of all processes, that fork included. The floor is a TCPStore, os.fork() and os._exit(), without error "
    "handling, logs or anything else. torch's elastic_launch meets by c10d at localhost:0; with forkserver its server "
    "has torch and this module preloaded and has served one group before. `in a sweep`: a server was opened before and "
    "has run one job; its fork is the job's agent. `job` is seen by the launcher, `group` by that agent."
)


def worker() -> list[float]:
    """Run in each worker of an elastic agent; returns moments on the monotonic clock, which processes share."""
    first = time.monotonic()
    dist.init_process_group("gloo")
    return _work(first)


def _work(first: float) -> list[float]:
    ready = time.monotonic()
    dist.all_reduce(torch.ones(1))
    dist.destroy_process_group()
    return [first, ready, time.monotonic()]


def _floor() -> dict[str, float]:
    start = time.monotonic()
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reader, writer = os.pipe()
    pids = []
    for rank in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            first = time.monotonic()
            client = dist.TCPStore("127.0.0.1", store.port, is_master=False)
            dist.init_process_group("gloo", store=client, rank=rank, world_size=WORKERS)
            os.write(writer, json.dumps(_work(first)).encode() + b"\n")
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    end = time.monotonic()
    return _phases(start, [json.loads(line) for line in os.read(reader, 4096).splitlines()], end)


def _phases(start: float, moments: list[list[float]], end: float) -> dict[str, float]:
    first, ready, done = (max(moment) for moment in zip(*moments, strict=True))
    return {"total": end - start, "first line": first - start, "group ready": ready - start, "tail": end - done}


def _launched(launch: Callable[[], Mapping[int, list[float]]]) -> dict[str, float]:
    start = time.monotonic()
    values = launch()
    return _phases(start, list(values.values()), time.monotonic())


def ours(start_method: str) -> dict[str, float]:
    """Launch a group with elastic_hydra."""
    return _launched(elastic_launch(_config(start_method), worker))


def _config(start_method: str) -> LaunchConfig:
    return LaunchConfig(1, 1, WORKERS, start_method=start_method, max_restarts=0)


def torchs(start_method: str) -> dict[str, float]:
    """Launch a group with torch's elastic_launch."""
    config = torch_api.LaunchConfig(
        1, 1, WORKERS, run_id="benchmark", start_method=start_method, max_restarts=0, **TORCHS_RENDEZVOUS
    )
    return _launched(torch_api.elastic_launch(config, worker))


def _torchs_preloaded() -> dict[str, float]:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["torch", "tests.benchmarks.groups"])
    torchs("forkserver")
    return torchs("forkserver")


def _in_a_sweep(start_method: str) -> dict[str, float]:
    """Run two jobs on one server, and return what the second one took."""
    shared = {"job": ours, "worker": worker}  # a sweep's server has the jobs' function
    with open_server(start_method, shared, 30.0) as server:
        for _ in range(2):
            start = time.monotonic()
            # The environment as it is now; what a job's agent gets is this and its GPUs.
            spec = ProcessSpec(None, dict(os.environ), os.getcwd(), cpus=frozenset(os.sched_getaffinity(0)), agent=True)
            process = server.start(spec, (ours, (start_method,)))
            server.wait(lambda process=process: process.exitcode is not None)  # type: ignore[misc]
            outcome = process.outcome()
            end = time.monotonic()
            server.forget([process])
    if outcome is None or outcome.error is not None:
        raise RuntimeError(outcome.error.text if outcome is not None and outcome.error is not None else "it died")
    group: dict[str, float] = outcome.value
    return {**group, "job": end - start}


def _measured(function: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    found = in_child(function, *args)
    return {**found.value, "CPU": found.cpu}


def run(rounds: int | None) -> list[Table]:
    """Measure all ways."""
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "floor: fork": lambda: _measured(_floor),
        "elastic_hydra, warm": lambda: _measured(ours, "warm"),
        "elastic_hydra, in a sweep, warm": lambda: _measured(_in_a_sweep, "warm"),
        "elastic_hydra, in a sweep, forkserver": lambda: _measured(_in_a_sweep, "forkserver"),
        "elastic_hydra, forkserver": lambda: _measured(ours, "forkserver"),
        "elastic_hydra, spawn": lambda: _measured(ours, "spawn"),
        "torch, fork": lambda: _measured(torchs, "fork"),
        "torch, forkserver, preloaded": lambda: _measured(_torchs_preloaded),
        "torch, spawn": lambda: _measured(torchs, "spawn"),
    }
    rounds = rounds or 20
    slow = [name for name in ways if "spawn" in name or "forkserver" in name]
    measured = interleave(ways, rounds, {name: min(3, rounds) for name in slow})
    samples = {}
    for name, values in measured.items():
        if jobs := values.pop("job", None):
            del values["CPU"]  # it would be that of two jobs and a server
            samples[f"{name}: group"] = values
            samples[f"{name}: job"] = {"total": jobs}
        else:
            samples[name] = values
    columns = [Column(name, "ms", 1e-3) for name in ("total", "first line", "group ready", "tail", "CPU")]
    title = f"a group of {WORKERS} gloo workers, from the call to its return"
    return [Table("groups", title, HOW, columns, samples, floor="floor: fork", ratio_of="total")]
