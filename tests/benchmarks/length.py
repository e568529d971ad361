"""A long sweep of tiny jobs: what grows with its length."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil

from tests.benchmarks.apps import job
from tests.benchmarks.harness import run_command
from tests.benchmarks.report import Column, Table

JOBS = 300
STEP = 50
HOW = (
    f"One sweep of {JOBS} one-line jobs of one worker, parallel=2, looked at from outside: after the given number of "
    "jobs, the open file descriptors, threads and resident memory of the launcher and of its server, and the files in "
    "a temporary folder of the sweep's own. `each job`: wall time per job since the row before. What the jobs of a "
    "batch returned stays until its end: the launcher's memory grows with that."
)


class _Look:
    """Looks at the launcher, and at its server, each time that so many more jobs have ended."""

    def __init__(self, folder: Path) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self._folder = folder

    def __call__(self, pid: int) -> None:
        ended = len(_ends(self._folder)) // STEP * STEP
        if ended == 0 or ended in self.rows:
            return
        with contextlib.suppress(psutil.Error, IndexError):
            launcher = psutil.Process(pid)
            row: dict[str, float] = {"temporary files": float(len(os.listdir(self._folder / "tmp")))}
            for name, process in (("launcher", launcher), ("server", launcher.children()[0])):
                row[f"{name}: fds"] = float(process.num_fds())
                row[f"{name}: threads"] = float(process.num_threads())
                row[f"{name}: memory"] = float(process.memory_info().rss)
            self.rows[ended] = row


def _ends(folder: Path) -> list[float]:
    found: list[float] = []
    for path in (folder / "sweep").glob("journal*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        found += [float(json.loads(line)["time"]) for line in lines if '"event": "end"' in line and line[-1] == "\n"]
    return found


def run(rounds: int | None) -> list[Table]:
    """Run the sweep, once: it repeats itself."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    (folder / "tmp").mkdir()
    look = _Look(folder)
    try:
        numbers = ",".join(map(str, range(JOBS)))
        launch = ["hydra/launcher=elastic", "hydra.launcher.parallel=2", f"hydra.sweep.dir={folder}/sweep"]
        command = [sys.executable, job.__file__, "-m", *launch, f"n={numbers}"]
        run_command(command, folder, {"TMPDIR": str(folder / "tmp")}, look=look)
        ends = sorted(_ends(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for count, row in look.rows.items():
        row["each job"] = (ends[count - 1] - ends[max(0, count - STEP)]) / (STEP - 1 if count == STEP else STEP)
    samples = {f"after {count} jobs": {k: [v] for k, v in row.items()} for count, row in look.rows.items()}
    columns = [Column("each job", "ms", 1e-3), Column("temporary files", "")]
    for name in ("launcher", "server"):
        columns += [
            Column(f"{name}: fds", ""),
            Column(f"{name}: threads", ""),
            Column(f"{name}: memory", "MiB", 2.0**20),
        ]
    return [Table("length", f"a sweep of {JOBS} jobs", HOW, columns, samples)]
