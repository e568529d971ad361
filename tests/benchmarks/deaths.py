"""A worker that is killed: how long until its agent knows, and until the whole group runs again."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import PContext
from torch.distributed.launcher import api as torch_api
from torch.multiprocessing.spawn import ProcessContext, ProcessException

from elastic_hydra import LaunchConfig, elastic_launch
from tests.benchmarks.groups import TORCHS_RENDEZVOUS
from tests.benchmarks.harness import in_child, interleave
from tests.benchmarks.report import Column, Table

WORKERS = 2
HOW = (
    f"A group of {WORKERS} workers without communication. When all run, rank 1 notes the time and kills itself by "
    "SIGKILL, while rank 0 sleeps; one restart is allowed. `first start`: from the call to the first line of the last "
    "worker; `detected`: from the death until the agent knows and begins to stop the group (torch: has just begun); "
    "`stopped`: until all of the group is stopped, waited for and reported; `restarted`: from the death to the first "
    "line of the last new worker. The floor forks two such workers and waits for the end of one (pidfd): before that "
    "the kernel takes the dead process's memory down. Each measurement in a fork of a warm process. torch's agent "
    "looks every 0.1 s, its default, and meets by c10d at localhost:0; `stopped` has the import of torch._dynamo in "
    "it, which its log needs."
)


def worker(folder: str) -> None:
    """Run in each worker: note the first line; in the first group rank 1 dies once all are there."""
    attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    _note(folder, f"first {attempt} {rank}")
    if attempt > 0:
        return
    if rank != 1:
        time.sleep(60)
    while len(_noted(folder, "first 0")) < WORKERS:
        time.sleep(0.005)
    time.sleep(0.2)  # the agent shall wait, and not still be busy with the start
    _note(folder, "death")
    os.kill(os.getpid(), signal.SIGKILL)


def _note(folder: str, what: str) -> None:
    now = time.monotonic()
    path = Path(folder, what)
    if not path.exists():
        path.with_name("new " + what).write_text(repr(now))
        path.with_name("new " + what).rename(path)


def _noted(folder: str, what: str) -> list[float]:
    return [float(path.read_text()) for path in Path(folder).glob(f"{what}*")]


def _watched(folder: str) -> None:
    """Note when an agent in this process, whosoever's, learns of an end, and when it has looked after its workers."""
    close, join, monitor = PContext.close, ProcessContext.join, LocalElasticAgent._monitor_workers

    def noted_close(self: PContext, *args: Any, **kwargs: Any) -> None:
        _note(folder, "detected")
        close(self, *args, **kwargs)

    def noted_join(self: ProcessContext, *args: Any, **kwargs: Any) -> bool:
        try:
            return bool(join(self, *args, **kwargs))
        except ProcessException:
            _note(folder, "detected")
            raise

    def noted_monitor(self: LocalElasticAgent, *args: Any, **kwargs: Any) -> Any:
        result = monitor(self, *args, **kwargs)
        if _noted(folder, "detected"):
            _note(folder, "stopped")
        return result

    PContext.close = noted_close  # type: ignore[method-assign]
    ProcessContext.join = noted_join  # type: ignore[method-assign]
    LocalElasticAgent._monitor_workers = noted_monitor  # type: ignore[method-assign]


def _floor() -> dict[str, float]:
    folder, pids = tempfile.mkdtemp(), []
    for rank in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            os.environ.update(TORCHELASTIC_RESTART_COUNT="0", RANK=str(rank))
            worker(folder)
        pids.append(pid)
    ends = [os.pidfd_open(pid) for pid in pids]
    select.select(ends, [], [])
    detected = time.monotonic()
    os.kill(pids[0], signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    (death,) = _noted(folder, "death")
    return {"detected": detected - death}


def _measured_in_a_child(launch: Callable[[str], Any]) -> dict[str, float]:
    found: dict[str, float] = in_child(_measured, launch).value
    return found


def _measured(launch: Callable[[str], Any]) -> dict[str, float]:
    folder = tempfile.mkdtemp()
    _watched(folder)
    start = time.monotonic()
    launch(folder)
    found = {what: _noted(folder, what) for what in ("death", "detected", "stopped", "first 0", "first 1")}
    (death,), (detected,), (stopped,) = found["death"], found["detected"], found["stopped"]
    first_start, restarted = max(found["first 0"]) - start, max(found["first 1"]) - death
    return {
        "first start": first_start,
        "detected": detected - death,
        "stopped": stopped - death,
        "restarted": restarted,
        "restarted / first start": restarted / first_start,
    }


def _ours(folder: str) -> None:
    elastic_launch(LaunchConfig(1, 1, WORKERS, start_method="warm", max_restarts=1), worker)(folder)


def _torchs(start_method: str, folder: str) -> None:
    config = torch_api.LaunchConfig(
        1, 1, WORKERS, run_id="benchmark", start_method=start_method, max_restarts=1, **TORCHS_RENDEZVOUS
    )
    torch_api.elastic_launch(config, worker)(folder)


def run(rounds: int | None) -> list[Table]:
    """Measure both agents."""
    rounds = rounds or 25
    launches: dict[str, Callable[[str], Any]] = {
        "elastic_hydra, warm": _ours,
        "torch, fork": partial(_torchs, "fork"),
        "torch, spawn": partial(_torchs, "spawn"),
    }
    ways: dict[str, Callable[[], dict[str, float]]] = {"floor: a forked process": lambda: in_child(_floor).value}
    ways |= {name: partial(_measured_in_a_child, launch) for name, launch in launches.items()}
    samples = interleave(ways, rounds, {"torch, spawn": min(3, rounds)})
    columns = [
        *(Column(name, "ms", 1e-3, digits=1) for name in ("first start", "detected", "stopped", "restarted")),
        Column("restarted / first start", "", digits=2),
    ]
    return [Table("deaths", "from the death of one of two workers on", HOW, columns, samples)]
