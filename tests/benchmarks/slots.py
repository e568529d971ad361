"""Jobs side by side: how much faster the jobs of a sweep are done."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.benchmarks.apps import job
from tests.benchmarks.harness import interleave, run_command
from tests.benchmarks.report import Column, Table

JOBS = 8
PARALLEL = (1, 2, 4)
HOW = (
    f"Sweeps of {JOBS} jobs of one worker: each sleeps for one second, or computes in one thread what took about a "
    "second alone just before. `jobs`: from the start of the first job to the end of the last one, as the launcher's "
    "journal has them, with the start of each job's agent and worker in it; `speed-up`: how many times as long "
    "parallel=1 took in the same round. The floor is a multiprocessing.Pool of so many processes that computes the "
    "same: two CPUs of a virtual machine may be one core."
)


def _measured(override: str, parallel: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    numbers = ",".join(map(str, range(JOBS)))
    launch = ["hydra/launcher=elastic", f"hydra.launcher.parallel={parallel}", f"hydra.sweep.dir={folder}/sweep"]
    try:
        run_command([sys.executable, job.__file__, "-m", *launch, f"n={numbers}", override], folder)
        (journal,) = (folder / "sweep").glob("journal*.jsonl")
        records = [json.loads(line) for line in journal.read_text().splitlines()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    times = {event: [r["time"] for r in records if r["event"] == event] for event in ("start", "end")}
    assert len(times["start"]) == len(times["end"]) == JOBS
    return float(max(times["end"]) - min(times["start"]))


def _loops_of_one_second() -> int:
    loops, taken = 1_000_000, []
    for _ in range(5):
        start = time.monotonic()
        job.compute(loops)
        taken.append(time.monotonic() - start)
    return int(loops / statistics.median(taken))


def _floor(loops: int, parallel: int) -> float:
    with multiprocessing.get_context("fork").Pool(parallel) as pool:
        start = time.monotonic()
        pool.map(job.compute, [loops] * JOBS, chunksize=1)
        return time.monotonic() - start


def _one_round(measured: Callable[[int], float]) -> dict[str, float]:
    return {f"parallel={parallel}": measured(parallel) for parallel in PARALLEL}


def run(rounds: int | None) -> list[Table]:
    """Measure sleeping and computing jobs."""
    loops = _loops_of_one_second()
    ways = {
        "sleeping": partial(_one_round, partial(_measured, "seconds=1")),
        "computing": partial(_one_round, partial(_measured, f"loops={loops}")),
        "floor, computing": partial(_one_round, partial(_floor, loops)),
    }
    found = interleave(ways, rounds or 3, warm_up=False)
    samples = {}
    for kind, values in found.items():
        for way, seconds in values.items():
            speed_ups = [alone / one for alone, one in zip(values["parallel=1"], seconds, strict=True)]
            samples[f"{kind}, {way}"] = {"jobs": seconds, "speed-up": speed_ups}
    columns = [Column("jobs", "s", digits=2), Column("speed-up", "", digits=2)]
    return [Table("slots", f"{JOBS} jobs of a second each, side by side", HOW, columns, samples)]
