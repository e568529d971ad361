"""Whole sweeps of trivial jobs: the process that a user starts, from its first to its last moment."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.harness import interleave, progress, run_command
from tests.benchmarks.report import Column, Table

APP = Path(__file__).parent / "apps" / "job.py"
HOW = (
    "The whole process, imports included: wall time, and CPU time of it and all its descendants (all are waited for). "
    "The job: init_process_group('gloo'), one all_reduce and destroy_process_group where there are several workers, "
    "else next to nothing. `1 job` is the same command with one job, in the same round; `each further job` is the "
    "difference divided by the further jobs. Memory: the highest sum of the proportional set sizes of all processes, "
    "looked at every 50 ms in a run of its own. hydra-torchrun-launcher is measured where it is installed; to start on "
    "torch 2.13 it has to be given the settings that torch has added. torchrun: `for n in …; do torchrun --standalone "
    "app.py n=$n; done`."
)
SHAPES = ((8, 2), (8, 1), (32, 1))


def hydra(launcher: str, jobs: int, *overrides: str) -> Callable[[Path], list[str]]:
    """Return a command: a multirun with a launcher."""

    def command(folder: Path) -> list[str]:
        launch = [f"hydra/launcher={launcher}"] if launcher else []
        sweep = [f"n={','.join(map(str, range(jobs)))}", f"hydra.sweep.dir={folder}/sweep"]
        return [sys.executable, str(APP), "-m", *launch, *overrides, *sweep]

    return command


def _torchrun(jobs: int, workers: int) -> Callable[[Path], list[str]]:
    def command(folder: Path) -> list[str]:
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", str(APP)]
        numbers = " ".join(map(str, range(jobs)))
        return ["sh", "-c", f"for n in {numbers}; do {shlex.join(run)} n=$n hydra.run.dir={folder}/$n || exit 1; done"]

    return command


def _ways(jobs: int, workers: int) -> dict[str, Callable[[Path], list[str]]]:
    ours = f"hydra.launcher.nproc_per_node={workers}"
    ways = {
        "elastic_hydra": hydra("elastic", jobs, ours),
        "elastic_hydra, parallel=2": hydra("elastic", jobs, ours, "hydra.launcher.parallel=2"),
        "torchrun in a shell loop": _torchrun(jobs, workers),
    }
    if workers == 1:
        ways["Hydra's basic launcher"] = hydra("", jobs)
    if workers == 1 and _installed("hydra_joblib_launcher"):
        ways["Hydra's joblib launcher, n_jobs=2"] = hydra("joblib", jobs, "hydra.launcher.n_jobs=2")
    if _installed("hydra_torchrun_launcher"):
        ways["hydra-torchrun-launcher"] = hydra("torchrun", jobs, f"hydra.launcher.nproc_per_node={workers}")
    if _installed("hydra_submitit_launcher"):
        ways["submitit's local launcher"] = hydra("submitit_local", jobs, f"hydra.launcher.tasks_per_node={workers}")
    return ways


def _installed(name: str) -> bool:
    return importlib.util.find_spec(f"hydra_plugins.{name}") is not None


def _missing() -> list[str]:
    names = ("joblib", "submitit", "torchrun")
    return [f"Not installed: hydra-{name}-launcher." for name in names if not _installed(f"hydra_{name}_launcher")]


def timed(command: Callable[[Path], list[str]], sampled: bool = False) -> tuple[float, float, float]:
    """Run a command in a folder of its own; return its wall time, CPU time and memory (0: not looked at)."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    try:
        ended = run_command(command(folder), folder, sampled=sampled)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ended.wall, ended.cpu, float(ended.memory or 0)


def measured(
    jobs: int, all_jobs: Callable[[Path], list[str]], one_job: Callable[[Path], list[str]]
) -> dict[str, float]:
    """Run a sweep and the same with one job, and return what each of the further jobs costs.

    Args:
        jobs: how many the sweep has.
        all_jobs: its command, for a folder.
        one_job: that of one job.
    """
    wall, cpu, _ = timed(all_jobs)
    first_wall, first_cpu, _ = timed(one_job)
    return {
        "wall": wall,
        "CPU": cpu,
        "1 job, wall": first_wall,
        "1 job, CPU": first_cpu,
        "each further job, wall": (wall - first_wall) / (jobs - 1),
        "each further job, CPU": (cpu - first_cpu) / (jobs - 1),
    }


def run(rounds: int | None) -> list[Table]:
    """Measure all shapes."""
    tables = []
    for jobs, workers in SHAPES:
        progress(f"  {jobs} x {workers}")
        ways, single = _ways(jobs, workers), _ways(1, workers)
        slow = jobs > 8
        samples = interleave(
            {name: partial(measured, jobs, ways[name], single[name]) for name in ways},
            rounds or (1 if slow else 3),
            warm_up=False,
        )
        for name, command in ways.items():
            if not slow or "torchrun" not in name:
                samples[name]["memory"] = [timed(command, sampled=True)[2]]
        columns = [
            Column("wall", "s", digits=1),
            Column("CPU", "s", digits=1),
            Column("each further job, wall", "ms", 1e-3),
            Column("each further job, CPU", "ms", 1e-3),
            Column("1 job, wall", "s", digits=1),
            Column("1 job, CPU", "s", digits=1),
            Column("memory", "MiB", 2.0**20),
        ]
        title = f"{jobs} trivial jobs of {workers} worker{'s' if workers > 1 else ''}"
        table = Table(
            f"sweeps {jobs} x {workers}", title, HOW, columns, samples, notes=[*_missing(), *_factors(samples)]
        )
        tables.append(table)
    return tables


def _factors(samples: dict[str, dict[str, list[float]]]) -> list[str]:
    """Say how many times as much as ours the others use."""
    ours, lines = samples["elastic_hydra"], []
    for name, values in samples.items():
        if not name.startswith("elastic_hydra"):
            quantities = ("CPU", "each further job, CPU", "each further job, wall")
            parts = [f"{median(values[q]) / median(ours[q]):.1f} times the {q}" for q in quantities]
            lines.append(f"{name}: {'; '.join(parts)} of elastic_hydra.")
    return lines
