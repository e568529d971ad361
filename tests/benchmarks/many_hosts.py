"""A launcher with a hundred hosts of eight slots each: how long it decides, and what part of a CPU it takes."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from elastic_hydra.sweeps.scheduler import Scheduler
from elastic_hydra.sweeps.steps import StartJob
from tests.benchmarks import simulated_hosts
from tests.benchmarks.apps import job
from tests.benchmarks.harness import ROOT, interleave, run_command
from tests.benchmarks.report import Column, Table
from tests.sweeps.test_scheduler import attempt, host, scheduler

HOSTS, SLOTS, JOBS = 100, 8, 1600
SECONDS = 60.0
HOW_DECISION = (
    f"The scheduler alone: {HOSTS} hosts with {SLOTS} slots each, all taken, and {JOBS} jobs that wait. One job ends, "
    "and the next one gets its slot; or nothing has ended, and there is nothing to do. One value is "
    "the median of 200, of CPU time."
)
HOW_LAUNCHER = (
    f"A sweep of {JOBS} jobs of {SECONDS:.0f} s on {HOSTS} hosts with {SLOTS} slots each. One process plays all hosts: "
    "it answers as host processes do, and its jobs only take their time. CPU time is the launcher's, from the first "
    "start to the last end: composing, starting, writing the journal, signs of life. `share of a CPU`: of that time; "
    "it falls as jobs take longer. `each job`: that CPU time by the number of jobs."
)


def _full() -> Scheduler:
    slots = {f"s{number}": host(SLOTS, name=f"s{number}") for number in range(HOSTS)}
    made = scheduler(*(attempt(num) for num in range(HOSTS * SLOTS + JOBS)), slots=slots)
    while isinstance(made.next(0.0), StartJob):
        pass
    assert len(made.running) == HOSTS * SLOTS
    return made


def _decisions() -> Mapping[str, float]:
    made, taken = _full(), dict[str, list[float]](start=[], nothing=[])
    for _ in range(200):
        made.ended(next(iter(made.running)))
        for what in taken:
            start = time.process_time()
            step = made.next(0.0)
            taken[what].append(time.process_time() - start)
            assert isinstance(step, StartJob) == (what == "start")
    return {what: statistics.median(values) for what, values in taken.items()}


class _Look:
    """Looks at the CPU time of a launcher, again and again."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def __call__(self, pid: int) -> None:
        used = psutil.Process(pid).cpu_times()
        self._seen.append((time.time(), used.user + used.system))

    def used(self, start: float, end: float) -> float:
        """Return the CPU seconds between two moments."""
        inside = [used for moment, used in self._seen if start <= moment <= end]
        return inside[-1] - inside[0]


def _launcher() -> Mapping[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    sock, sweep, look = folder / "hosts", folder / "sweep", _Look()
    play = [sys.executable, "-m", "tests.benchmarks.simulated_hosts", str(sock), str(sweep), str(SECONDS)]
    keys = [f"hosts.engine={simulated_hosts.__name__}", f"hosts.max={HOSTS}", f"parallel={SLOTS}", "nproc_per_node=1"]
    launch = ["hydra/launcher=elastic", *(f"hydra.launcher.{key}" for key in keys), f"hydra.sweep.dir={sweep}"]
    command = [sys.executable, job.__file__, "-m", *launch, f"n={','.join(map(str, range(JOBS)))}"]
    variables = {simulated_hosts.SOCKET: str(sock), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(play, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as hosts:
        try:
            while not sock.exists():
                assert hosts.poll() is None
                time.sleep(0.05)
            run_command(command, folder, variables, look=look)
            lines = [json.loads(line) for line in (sweep / "journal.jsonl").read_text().splitlines()]
        finally:
            hosts.kill()
            hosts.wait()
            shutil.rmtree(folder, ignore_errors=True)
    start, end = (pick(line["time"] for line in lines if line["event"] == what) for pick, what in _WINDOW)
    used = look.used(start, end)
    return {"share of a CPU": used / (end - start), "each job": used / JOBS, "time": end - start}


_WINDOW: list[tuple[Callable[..., float], str]] = [(min, "start"), (max, "end")]


def run(rounds: int | None) -> list[Table]:
    """Measure decisions of the scheduler alone, and a whole launcher."""
    decisions = interleave({"100 hosts x 8 slots": _decisions}, rounds or 5)
    launcher = interleave({"100 hosts x 8 slots": _launcher}, rounds or 1, warm_up=False)
    return [
        Table(
            "many hosts, a decision",
            "what happens next",
            HOW_DECISION,
            [Column("start", "ms", 1e-3, digits=3), Column("nothing", "ms", 1e-3, digits=3)],
            decisions,
        ),
        Table(
            "many hosts, the launcher",
            "a launcher whose 800 slots are taken",
            HOW_LAUNCHER,
            [Column("share of a CPU", "%", 0.01, digits=1), Column("each job", "ms", 1e-3, 1), Column("time", "s")],
            launcher,
        ),
    ]
