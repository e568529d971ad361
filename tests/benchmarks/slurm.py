"""Hosts by Slurm: how much faster two hosts with two slots each are than one slot, beside submitit's launcher."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.apps import job
from tests.benchmarks.harness import interleave
from tests.benchmarks.report import Column, Table
from tests.helpers.slurm import Cluster, lack

JOBS, FEWER_JOBS = 200, 40
SLOTS = 4
HOW = (
    "Jobs that sleep for one second, on a Slurm cluster of two nodes that are network namespaces of this machine: "
    f"{JOBS} of them on two hosts with two slots each, {FEWER_JOBS} on one host with one slot, and {FEWER_JOBS} with "
    "submitit's Hydra launcher in an array of four at a time. `each job`: the time from the start of the first job to "
    "the end of the last one, divided by the number of jobs; with submitit, which notes no starts, of the whole sweep "
    "without the imports of its launcher (those of one more process). `times as fast`: as one slot, in the same round."
)


@contextmanager
def _login_shell() -> Iterator[Mapping[str, str]]:
    """Start a cluster, and give the variables of a login shell there."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            programs = Path(folder) / "bin"
            cluster.write_commands(programs)
            path = f"{programs}{os.pathsep}{os.environ['PATH']}"
            yield {"SLURM_CONF": cluster.environ["SLURM_CONF"], "PATH": path}
        finally:
            cluster.close()


def _ours(variables: Mapping[str, str], hosts: int, parallel: int, jobs: int) -> float:
    keys = [f"hosts.max={hosts}", "hosts.gpus_per_node=2", f"parallel={parallel}", "nproc_per_node=1"]
    launch = ["hydra/launcher=elastic", "hydra/launcher/hosts=slurm", *(f"hydra.launcher.{key}" for key in keys)]
    with _swept(variables, launch, jobs) as (folder, _):
        lines = [json.loads(line) for line in (folder / "sweep" / "journal.jsonl").read_text().splitlines()]
    times = {event: [line["time"] for line in lines if line["event"] == event] for event in ("start", "end")}
    assert len(times["end"]) == jobs
    return float(max(times["end"]) - min(times["start"])) / jobs


def _submitit(variables: Mapping[str, str]) -> float:
    keys = [f"array_parallelism={SLOTS}", "cpus_per_task=2", "timeout_min=60"]
    launch = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{key}" for key in keys)]
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch, hydra"], check=True)
    imports = time.monotonic() - start
    with _swept(variables, launch, FEWER_JOBS) as (_, wall):
        return (wall - imports) / FEWER_JOBS


@contextmanager
def _swept(variables: Mapping[str, str], launch: list[str], jobs: int) -> Iterator[tuple[Path, float]]:
    """Run a sweep of jobs that sleep, and give its folder and how long it has taken."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark_"))
    sweep = ["-m", f"hydra.sweep.dir={folder}/sweep", f"n={','.join(map(str, range(jobs)))}", "seconds=1"]
    command = [sys.executable, job.__file__, *sweep, *launch]
    start = time.monotonic()
    try:
        # The harness would wait for the cluster's daemons, too, which this process has started.
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        yield folder, time.monotonic() - start
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(rounds: int | None) -> list[Table]:
    """Measure all ways, where there can be a cluster."""
    notes = []
    if why := lack():
        return [Table("slurm", "hosts by Slurm", HOW, [], {}, notes=[f"Not measured: {why}."])]
    with _login_shell() as variables:
        ways: dict[str, Callable[[], float]] = {
            "one host with one slot": partial(_ours, variables, 1, 1, FEWER_JOBS),
            "two hosts with two slots": partial(_ours, variables, 2, 2, JOBS),
        }
        if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
            notes.append("Not installed: hydra-submitit-launcher.")
        else:
            ways["submitit's launcher, four at a time"] = partial(_submitit, variables)
        one_round = {"": lambda: {name: way() for name, way in ways.items()}}
        found = interleave(one_round, rounds or 2, warm_up=False)[""]
    one_slot = found["one host with one slot"]
    samples = {
        name: {"each job": times, "times as fast": [one / time for one, time in zip(one_slot, times, strict=True)]}
        for name, times in found.items()
    }
    columns = [Column("each job", "s", digits=2), Column("times as fast", "", digits=2)]
    return [Table("slurm", "jobs of a second each on a Slurm cluster", HOW, columns, samples, notes=notes)]
