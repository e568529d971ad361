"""What each shortcut through Hydra gains."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from elastic_hydra.compat.shortcuts import SHORTCUTS, VARIABLE
from tests.benchmarks.apps import job
from tests.benchmarks.harness import Samples, interleave, run_command
from tests.benchmarks.report import Column, Table

JOBS = 17
CPU = "each further job, CPU"
HOW = (
    f"CPU time of a sweep of {JOBS} trivial jobs of one worker and of all its descendants, less that of the same with "
    "one job, divided by the further jobs; with all shortcuts, without each of them, and without any. `1 job` is the "
    "command with one job."
)


def _cpu(jobs: int, said: str) -> float:
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    sweep = [f"n={','.join(map(str, range(jobs)))}", f"hydra.sweep.dir={folder}/sweep"]
    try:
        command = [sys.executable, job.__file__, "-m", "hydra/launcher=elastic", *sweep]
        return run_command(command, folder, {VARIABLE: said}).cpu
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(said: str) -> dict[str, float]:
    one = _cpu(1, said)
    return {"1 job, CPU": one, CPU: (_cpu(JOBS, said) - one) / (JOBS - 1)}


def run(rounds: int | None) -> list[Table]:
    """Measure all of them."""
    said = {"all": "1", **{f"without {name}": f"-{name}" for name in SHORTCUTS}, "none": "0"}
    samples = interleave({way: partial(_measured, value) for way, value in said.items()}, rounds or 5)
    columns = [Column(CPU, "ms", 1e-3), Column("1 job, CPU", "s", digits=2)]
    return [Table("shortcuts", "what each shortcut through Hydra gains", HOW, columns, samples, notes=_gains(samples))]


def _gains(samples: Samples) -> list[str]:
    usual = median(samples["all"][CPU])
    gains = {way: median(values[CPU]) / usual - 1 for way, values in samples.items() if way != "all"}
    return [f"A further job takes {100 * gain:+.0f} % CPU: {way}." for way, gain in gains.items()]
