"""What it costs to look at a sweep: `elastic-hydra status`, cold."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import AttemptStarted, JobComposed, JobEnded, SweepBegan, WorkersStarted
from tests.benchmarks.harness import interleave, run_command
from tests.benchmarks.report import Column, Table

HOW = (
    "`elastic-hydra status` as a new process, on sweeps that have ended with every tenth job failed, beside Python "
    "that does nothing. Each job has a configuration of 40 lines."
)
STATUS = "import sys; from elastic_hydra.cli.main import main; main(['status', sys.argv[1]])"
SIZES = (10, 10_000)


def _sweep(folder: Path, jobs: int) -> None:
    """Write the journal of a sweep that has ended."""
    folder.mkdir()
    config = "".join(f"key_{number}: value {number}\n" for number in range(40))
    with open(folder / "journal.jsonl", "wb") as file:
        file.write(encode(SweepBegan(host="host", command=["python", "train.py"], dir=str(folder))))
        for num in range(jobs):
            overrides, place = [f"lr={num / 10}", "model=big", f"seed={num % 7}"], str(folder / str(num))
            job = JobComposed(num=num, overrides=overrides, config=config, dir=place, log_dir=f"{place}/logs")
            start = AttemptStarted(num=num, attempt=0, gpus=[0, 1], first_restart=0)
            reason = "" if num % 10 else "boom"
            end = JobEnded(num=num, state="failed" if reason else "finished", reason=reason, seconds=9.0)
            file.write(b"".join(map(encode, (job, start, WorkersStarted(num=num), end))))


def _measured(code: str, *arguments: str) -> dict[str, float]:
    ended = run_command([sys.executable, "-c", code, *arguments], Path.cwd())
    return {"wall": ended.wall, "CPU": ended.cpu}


def run(rounds: int | None) -> list[Table]:
    """Measure a small sweep and a huge one."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    try:
        ways = {"python -c pass": partial(_measured, "pass")}
        for jobs in SIZES:
            _sweep(folder / str(jobs), jobs)
            ways[f"status, {jobs} jobs"] = partial(_measured, STATUS, str(folder / str(jobs)))
        samples = interleave(ways, rounds or 10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    columns = [Column("wall", "ms", 1e-3, digits=1), Column("CPU", "ms", 1e-3, digits=1)]
    return [Table("status", "looking at a sweep", HOW, columns, samples)]
