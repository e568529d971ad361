"""What a job takes of the host: each border, and what is said beyond it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from elastic_hydra.config.numa import Cpus, Near, NumaConfig
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.resources import (
    Demand,
    ResourcesConfig,
    cpus_of,
    demand_of,
    gpus_per_worker_of,
    read_parallel,
    threads_of,
    workers_of,
)
from tests.config.settings import CPU_HOST, GPU_HOST

AUTO = "or more, or auto"
WORKERS = "must be 1 or more, or one of auto, cpu, gpu"
GIGABYTE = 10**9


def told(problems: Problems) -> list[str]:
    return [line.removeprefix("hydra.launcher.").removeprefix("resources.") for line in problems.lines]


@pytest.mark.parametrize(
    ("value", "parallel", "expected"),
    [
        ("auto", None, []),
        (1, 1, []),
        ("3", 3, []),
        (0, 1, [f"parallel=0: must be 1 {AUTO}"]),
        ("autp", 1, [f"parallel=autp: must be 1 {AUTO} (did you mean auto?)"]),
    ],
)
def test_jobs_side_by_side_are_a_number_or_auto(value: Any, parallel: int | None, expected: list[str]) -> None:
    problems = Problems()
    assert read_parallel(value, problems) == parallel
    assert told(problems) == expected


@pytest.mark.parametrize(
    ("value", "parallel", "on_cpus", "on_gpus"),
    [
        (1, 1, 1, 1),
        (3, 1, 3, 3),
        (" 4 ", None, 4, 4),
        ("auto", 1, 1, 8),
        ("auto", 3, 1, 2),
        ("auto", 99, 1, 1),
        ("auto", None, 1, 1),
        ("cpu", 1, 8, 64),
        (" CPU ", 3, 2, 21),
        ("cpu", 99, 1, 1),
        ("cpu", None, 8, 64),
        ("gpu", 1, None, 8),
        ("gpu", 3, None, 2),
        ("gpu", 99, None, 1),
        ("gpu", None, None, 8),
    ],
)
def test_workers_are_a_number_or_follow_the_job_s_part_of_the_host(
    value: Any, parallel: int | None, on_cpus: int | None, on_gpus: int
) -> None:
    problems = Problems()
    assert workers_of(value, GPU_HOST, parallel, problems) == on_gpus
    assert told(problems) == []
    assert workers_of(value, CPU_HOST, parallel, problems) == (on_cpus or 1)
    missing = f"nproc_per_node={value}: this host has no GPU that torch sees; use cpu or a number"
    assert told(problems) == ([] if on_cpus else [missing])


def test_one_gpu_is_enough_for_workers_on_gpus() -> None:
    problems = Problems()
    assert workers_of("gpu", dataclasses.replace(GPU_HOST, gpus=1), 1, problems) == 1
    assert told(problems) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, f"nproc_per_node=0: {WORKERS}"),
        ("gpus", f"nproc_per_node=gpus: {WORKERS} (did you mean gpu?)"),
        ("Autp", f"nproc_per_node=Autp: {WORKERS} (did you mean auto?)"),
    ],
)
def test_no_other_word_stands_for_a_number_of_workers(value: Any, expected: str) -> None:
    problems = Problems()
    assert workers_of(value, CPU_HOST, 1, problems) == 1
    assert told(problems) == [expected]


def demand(
    facts: Any, workers: int, parallel: int | None, numa: NumaConfig | None = None, **keys: Any
) -> tuple[Demand, list[str]]:
    problems = Problems()
    found = demand_of(ResourcesConfig(**keys), numa or NumaConfig(), workers, parallel, facts, problems)
    return found, told(problems)


LISTED = NumaConfig(cpus=Cpus.explicit, explicit=["0-1", "2"])
CORES = NumaConfig(cpus=Cpus.spread, cores_per_worker=4)
CORES_EACH = NumaConfig(cpus=Cpus.core, cores_per_worker=4)
CORES_APART = NumaConfig(cpus=Cpus.core, cores_per_worker=4, exclusive=True)
NODES = NumaConfig(cpus=Cpus.node, near=Near.none, exclusive=True)


@pytest.mark.parametrize(
    ("facts", "workers", "parallel", "numa", "keys", "expected"),
    [
        # A job alone has all of the host, whatever it asks for.
        (GPU_HOST, 2, 1, None, {"gpus_per_worker": 4, "cpus_per_worker": 32, "memory_per_job": "1GB"}, Demand()),
        (CPU_HOST, 2, 1, CORES, {}, Demand()),
        # Jobs side by side share the CPUs equally, unless they say how many they need.
        (CPU_HOST, 2, 2, None, {}, Demand()),
        (CPU_HOST, 2, None, None, {}, Demand(cpus=2)),
        (CPU_HOST, 2, 2, None, {"cpus_per_worker": 4}, Demand(cpus=8)),
        (CPU_HOST, 2, None, None, {"cpus_per_worker": "3"}, Demand(cpus=6)),
        (CPU_HOST, 1, 2, None, {"memory_per_job": "16GiB"}, Demand(memory=16 * 2**30)),
        (CPU_HOST, 1, 2, None, {"memory_per_job": "0"}, Demand()),
        # GPUs: one per worker where there are any.
        (GPU_HOST, 2, 2, None, {}, Demand(gpus=2)),
        (GPU_HOST, 2, None, None, {}, Demand(gpus=2)),
        (GPU_HOST, 2, None, None, {"gpus_per_worker": 4}, Demand(gpus=8)),
        (GPU_HOST, 2, None, None, {"gpus_per_worker": 0}, Demand(cpus=2)),
        (GPU_HOST, 2, None, None, {"cpus_per_worker": 32}, Demand(gpus=2, cpus=64)),
        (dataclasses.replace(GPU_HOST, gpus=1), 1, None, None, {}, Demand(gpus=1)),
        # CPUs that are listed are held as they are.
        (CPU_HOST, 2, None, LISTED, {}, Demand(listed=("0-1", "2"))),
        (GPU_HOST, 2, 2, LISTED, {}, Demand(gpus=2, listed=("0-1", "2"))),
        (CPU_HOST, 2, None, LISTED, {"cpus_per_worker": 1}, Demand(cpus=2)),
        # Workers without a GPU that have cores or a node of their own take these.
        (CPU_HOST, 2, None, CORES, {}, Demand(instances=2, instance_cores=4)),
        (CPU_HOST, 2, 2, CORES, {}, Demand(instances=2, instance_cores=4)),
        (CPU_HOST, 2, None, CORES, {"cpus_per_worker": 1}, Demand(cpus=2)),
        (CPU_HOST, 2, None, dataclasses.replace(CORES, cpus=Cpus.none), {}, Demand(cpus=2)),
        (CPU_HOST, 2, None, dataclasses.replace(CORES, cores_per_worker=0), {}, Demand(cpus=2)),
        (CPU_HOST, 2, None, dataclasses.replace(CORES, cores_per_worker=1), {}, Demand(instances=2, instance_cores=1)),
        (CPU_HOST, 2, None, NODES, {}, Demand(instances=2)),
        (CPU_HOST, 2, 2, NODES, {}, Demand()),
        (CPU_HOST, 2, None, dataclasses.replace(NODES, cpus=Cpus.llc), {}, Demand(cpus=2)),
        (CPU_HOST, 2, None, dataclasses.replace(NODES, near=Near.auto), {}, Demand(cpus=2)),
        (CPU_HOST, 2, None, dataclasses.replace(NODES, exclusive=False), {}, Demand(cpus=2)),
        # Those with a GPU take the cores beside it, of which they cannot do without some.
        (GPU_HOST, 2, None, CORES, {}, Demand(gpus=2, cores=8)),
        (GPU_HOST, 2, None, CORES_APART, {}, Demand(gpus=2, cores=8)),
        (GPU_HOST, 2, None, CORES_EACH, {}, Demand(gpus=2, cores=4)),
        (GPU_HOST, 2, None, dataclasses.replace(CORES, cores_per_worker=None), {}, Demand(gpus=2, cores=2)),
        (GPU_HOST, 1, None, dataclasses.replace(CORES, cores_per_worker=None), {}, Demand(gpus=1, cores=1)),
        (GPU_HOST, 2, None, dataclasses.replace(CORES, cpus=Cpus.none), {}, Demand(gpus=2)),
        (GPU_HOST, 2, None, dataclasses.replace(CORES, cpus=Cpus.explicit), {}, Demand(gpus=2)),
        (GPU_HOST, 2, 2, CORES, {}, Demand(gpus=2)),
        (GPU_HOST, 2, None, CORES, {"cpus_per_worker": 1}, Demand(gpus=2, cpus=2)),
    ],
)
def test_what_a_job_holds_while_others_run_beside_it(
    facts: Any, workers: int, parallel: int | None, numa: NumaConfig | None, keys: dict[str, Any], expected: Demand
) -> None:
    assert demand(facts, workers, parallel, numa, **keys) == (expected, [])


def too_many(key: str, value: Any, product: str, what: str, there: int, way_out: str) -> str:
    return (
        f"{key}={value}: {product} {what}, and this host has {there}: it can never run. "
        f"Choose fewer workers (hydra.launcher.nproc_per_node), {way_out}"
    )


FEWER = "or fewer CPUs each"
NONE = "or gpus_per_worker=0, with which a job sees all GPUs and none is counted"


@pytest.mark.parametrize("parallel", [1, 2, None])
@pytest.mark.parametrize(
    ("facts", "workers", "keys", "expected"),
    [
        (GPU_HOST, 8, {"gpus_per_worker": 1, "cpus_per_worker": 8}, []),
        (CPU_HOST, 1, {"memory_per_job": "16GiB"}, []),
        (
            CPU_HOST,
            1,
            {"memory_per_job": str(16 * 2**30 + 1)},
            ["memory_per_job=17179869185: this host has 17.2 GB: the job can never run"],
        ),
        (
            CPU_HOST,
            1,
            {"memory_per_job": "much"},
            ["memory_per_job=much: must be a size such as 16GB, 512MiB, or a number of bytes"],
        ),
        (
            CPU_HOST,
            3,
            {"cpus_per_worker": 3},
            [too_many("cpus_per_worker", 3, "3 workers x 3 = 9", "CPUs", 8, FEWER)],
        ),
        (
            GPU_HOST,
            3,
            {"gpus_per_worker": "3"},
            [too_many("gpus_per_worker", 3, "3 workers x 3 = 9", "GPUs", 8, NONE)],
        ),
        (CPU_HOST, 1, {"cpus_per_worker": 0}, [f"cpus_per_worker=0: must be 1 {AUTO}"]),
        (CPU_HOST, 1, {"gpus_per_worker": -1}, [f"gpus_per_worker=-1: must be 0 {AUTO}"]),
        (CPU_HOST, 1, {"gpus_per_worker": "autp"}, [f"gpus_per_worker=autp: must be 0 {AUTO} (did you mean auto?)"]),
    ],
)
def test_what_can_never_run_is_refused_however_many_run_beside_it(
    facts: Any, workers: int, keys: dict[str, Any], expected: list[str], parallel: int | None
) -> None:
    assert demand(facts, workers, parallel, **keys)[1] == expected


def test_as_many_workers_as_cpus_are_the_most_where_each_takes_one() -> None:
    assert demand(CPU_HOST, 8, None) == (Demand(cpus=8), [])
    assert demand(CPU_HOST, 9, None)[1] == [too_many("cpus_per_worker", "auto", "9 workers x 1 = 9", "CPUs", 8, FEWER)]
    assert demand(CPU_HOST, 9, 1) == demand(CPU_HOST, 9, 2) == (Demand(), [])  # then they share them


@pytest.mark.parametrize(
    ("wanted", "parallel", "jobs_per_gpu", "cpus"),
    [
        (Demand(cpus=3), None, 1, 3),
        (Demand(gpus=2), None, 1, 16),
        (Demand(gpus=3), None, 7, 3),
        (Demand(gpus=1), None, 99, 1),
        (Demand(gpus=2), None, 0, 64),  # wrong, which is said elsewhere
        (Demand(gpus=2), 3, 1, 21),
        (Demand(), None, 1, 64),
        (Demand(), 2, 1, 32),
        (Demand(), 99, 1, 1),
    ],
)
def test_how_many_threads_of_the_host_a_job_will_have(
    wanted: Demand, parallel: int | None, jobs_per_gpu: int, cpus: int
) -> None:
    assert cpus_of(wanted, GPU_HOST, parallel, jobs_per_gpu) == cpus


def test_a_job_for_gpus_on_a_host_without_any_has_all_its_cpus() -> None:
    assert cpus_of(Demand(gpus=1), CPU_HOST, None, 1) == 8


@pytest.mark.parametrize(("value", "number"), [("auto", 1), (0, 1), (1, 1), (2, 2), ("4", 4), ("x", 1)])
def test_a_worker_that_has_gpus_has_one_or_more(value: Any, number: int) -> None:
    assert gpus_per_worker_of(ResourcesConfig(gpus_per_worker=value)) == number


@pytest.mark.parametrize(
    ("value", "environ", "threads", "expected"),
    [
        (None, {}, None, []),
        ("auto", {}, 3, []),
        ("auto", {"OMP_NUM_THREADS": "5"}, None, []),
        (1, {}, 1, []),
        (5, {"OMP_NUM_THREADS": "4"}, 5, []),
        (0, {}, None, ["omp_num_threads=0: must be 1 or more, auto, or null"]),
        ("auot", {}, None, ["omp_num_threads=auot: must be 1 or more, auto, or null (did you mean auto?)"]),
        ("nul", {}, None, ["omp_num_threads=nul: must be 1 or more, auto, or null (did you mean null?)"]),
    ],
)
def test_threads_are_the_job_s_cpus_shared_by_its_workers_unless_they_are_given(
    value: Any, environ: dict[str, str], threads: int | None, expected: list[str]
) -> None:
    problems = Problems()
    assert threads_of(value, 2, 7, environ, problems) == threads
    assert told(problems) == expected


def test_no_worker_has_less_than_one_thread() -> None:
    assert threads_of("auto", 8, 7, {}, Problems()) == 1
