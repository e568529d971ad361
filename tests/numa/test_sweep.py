"""Sweeps of a real app: jobs side by side never share a CPU, and what is wrong is said before anything starts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from elastic_hydra.config.lists import format_list, parse_list
from tests.helpers.apps import App

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs on Linux"
    ),
]

AUTO = "hydra.launcher.parallel=auto"
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
# Both are alive while each looks: a pipe opens for one when the other opens it too.
MEET = """
from tests.numa import witness

number = HydraConfig.get().job.num
ready, done = (f"{cfg.folder}/{name}" for name in ("ready", "done"))
open(ready, "w" if number == 0 else "r").close()
note(**witness.testify())
open(done, "w" if number == 0 else "r").close()
"""


def app(folder: Path) -> App:
    for name in ("ready", "done"):
        os.mkfifo(folder / name)
    return App(folder, MEET, before=f"sys.path.append({str(Path(__file__).parents[2])!r})")


@pytest.mark.parametrize(
    "keys",
    [
        ("hydra/launcher/numa=spread", "hydra.launcher.parallel=2"),
        ("hydra/launcher/numa=exclusive", "hydra.launcher.parallel=auto", "hydra.launcher.start_method=spawn"),
        (
            "hydra/launcher/numa=cpu-latency",
            "hydra.launcher.numa.cores_per_worker=1",
            "hydra.launcher.parallel=auto",
        ),
    ],
)
def test_jobs_side_by_side_have_no_cpu_in_common(tmp_path, keys):
    finished = app(tmp_path).run(f"+folder={tmp_path}", "+job=0,1", *keys)
    assert finished.returncode == 0, finished.output
    masks = [finished.seen(job, 0)["masks"] for job in (0, 1)]
    assert [len(mask) for mask in masks] == [1, 1]  # one for all threads
    first, second = (set(parse_list(mask[0])) for mask in masks)
    assert first
    assert second
    assert not first & second
    planned = [json.loads((finished.folder / f"{job}/logs/bindings.json").read_text())[0] for job in (0, 1)]
    assert [format_list(binding["cpus"]) for binding in planned] == [masks[0][0], masks[1][0]]
    lines = map(json.loads, (finished.folder / "journal.jsonl").read_text().splitlines())
    assert sorted(line["num"] for line in lines if line["event"] == "bindings") == [0, 1]


def test_with_on_error_warn_a_job_that_cannot_be_bound_runs_unbound_beside_others(tmp_path):
    keys = ("hydra/launcher/numa=cpu-latency", "hydra.launcher.numa.cores_per_worker=999", AUTO)
    finished = app(tmp_path).run(f"+folder={tmp_path}", "+job=0,1", *keys, "hydra.launcher.numa.on_error=warn")
    assert finished.returncode == 0, finished.output
    first, second = (set(parse_list(finished.seen(job, 0)["masks"][0])) for job in (0, 1))
    assert not first & second
    assert finished.output.count("hydra.launcher.numa.cores_per_worker=999: this job has") == 2  # once for each


@pytest.mark.smoke
def test_a_dry_run_shows_the_slot_of_each_job(tmp_path):
    keys = ("hydra/launcher/numa=spread", "hydra.launcher.parallel=2", "hydra.launcher.dry_run=true")
    planned = app(tmp_path).run(f"+folder={tmp_path}", "+job=0,1,2", *keys)
    assert planned.returncode == 0, planned.output
    shown = [line.split()[1] for line in planned.output.splitlines() if line.strip().startswith("CPUs:")]
    assert len(shown) == 3
    assert not set(parse_list(shown[0])) & set(parse_list(shown[1]))
    assert shown[2] == shown[0]  # when the first has ended


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["hydra/launcher/numa=spread", "hydra.launcher.numa.cores_per_worker=999"], "=999: this job has"),
        (
            ["hydra/launcher/numa=cpu-latency", "hydra.launcher.numa.cores_per_worker=999", AUTO],
            "the largest NUMA node",
        ),
        (
            ["hydra/launcher/numa=cpu-throughput", "hydra.launcher.nproc_per_node=99", AUTO],
            "does not have that many; at most ",
        ),
        (["hydra/launcher/numa=spread", "hydra.launcher.numa.reserve_cores=999"], "reserve_cores=999: this host has"),
        (
            ["hydra.launcher.numa.reserve_cores=1", f"hydra.launcher.resources.cpus_per_worker={CPUS}", AUTO],
            "this host never has that free",
        ),
        (
            ["hydra/launcher/numa=exclusive", "hydra.launcher.parallel=999"],
            f"numa.exclusive=true lets none share one; at most {CPUS}, or numa.exclusive=false",
        ),
        (["hydra.launcher.numa.cpus=explicit", "hydra.launcher.numa.explicit=[9999]", AUTO], "no job may use CPU 9999"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(tmp_path, keys, text):
    refused = app(tmp_path).run(f"+folder={tmp_path}", "+job=0,1", *keys)
    assert refused.returncode != 0
    assert text in refused.output
    assert "Traceback" not in refused.output
    assert not (refused.folder / "journal.jsonl").exists()


def test_hydra_names_the_choices_of_a_key(tmp_path):
    refused = app(tmp_path).run(f"+folder={tmp_path}", "+job=0,1", "hydra.launcher.numa.cpus=nod")
    assert refused.returncode != 0
    assert "Invalid value 'nod', expected one of [none, package, node, llc, core" in refused.output
    assert not (refused.folder / "journal.jsonl").exists()
