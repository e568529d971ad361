"""Binding on a machine with five NUMA nodes, judged by what its kernel reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.numa import vm

pytestmark = [pytest.mark.system, pytest.mark.qemu]

BLOCK = 64 << 20 >> 12  # pages that a worker touches
Report = dict[str, Any]


@pytest.fixture(scope="module")
def report() -> Report:
    """What the guest saw; one boot for all tests."""
    try:
        return vm.boot(Path(__file__).parent / "guest.py")
    except vm.Unavailable as reason:
        pytest.skip(str(reason))


def assert_on(seen: Report, cpus: str, policy: str, node: int) -> None:
    """All threads on the CPUs, the policy in force, and the worker's block on the node."""
    assert seen["masks"] == [cpus]
    assert seen["policy"] == policy
    assert seen["pages"].get(str(node), 0) >= BLOCK
    assert sum(seen["pages"].values()) - seen["pages"][str(node)] < BLOCK // 100


def test_the_machine_is_read_as_it_was_asked_for(report):
    seen = report["machine"]
    assert (seen["cores"], seen["packages"]) == (8, 2)
    assert {int(node): cpus for node, (cpus, _) in seen["nodes"].items()} == {
        0: [0, 1, 2, 3],
        1: [4, 5, 6, 7],
        2: [8, 9, 10, 11],
        3: [12, 13, 14, 15],
        4: [],
    }
    assert seen["distance"][0] == [10, 12, 31, 31, 40]
    assert [node for _, node in seen["devices"]] == [1, 3]


def test_workers_are_at_their_devices_with_all_threads_and_children(report):
    for seen, cpus, node in zip(report["workers"], ("4-7", "12-15"), (1, 3), strict=True):
        assert_on(seen, cpus, f"prefer:{node}", node)
        assert_on(seen["child"], cpus, f"prefer:{node}", node)
        assert seen["applied"]["problems"] == []


def test_every_memory_policy_is_the_kernels(report):
    seen = report["memory"]
    assert_on(seen["local"], "4-7", "local", 1)
    assert_on(seen["preferred"], "4-7", "prefer:1", 1)
    assert_on(seen["bind"], "4-7", "bind:1", 1)
    assert (seen["interleave"]["masks"], seen["interleave"]["policy"]) == (["0-7"], "interleave:0-1")
    assert min(seen["interleave"]["pages"].values()) > BLOCK // 3


def test_pages_touched_before_move_only_when_migrated(report):
    seen = report["late_migration"]
    assert seen["False"]["pages"]["0"] >= BLOCK
    assert_on(seen["True"], "4-7", "bind:1", 1)
    assert seen["True"]["applied"]["migrated"]


def test_a_script_is_bound_before_its_interpreter_starts(report):
    assert_on(report["script"], "12-15", "bind:3", 3)


def test_jobs_side_by_side_have_no_cpu_in_common(report):
    workers = [worker for job in report["sweep"]["halves"] for worker in job]
    assert [worker["masks"] for worker in workers] == [[f"{first}-{first + 1}"] for first in range(0, 16, 2)]
    assert [worker["policy"] for worker in workers] == [f"prefer:{n // 2}" for n in range(8)]


def test_instances_have_a_core_each_and_one_hardware_thread_of_it(report):
    workers = [worker for job in report["sweep"]["instances"] for worker in job]
    assert [worker["masks"] for worker in workers] == [[str(cpu)] for cpu in range(0, 16, 2)]
    assert [list(worker["pages"]) for worker in workers] == [[str(n // 2)] for n in range(8)]


def test_a_cpu_that_went_away_is_noticed_and_the_next_plan_does_without(report):
    seen = report["hot_unplug"]
    assert seen["masks"] == ["0-2"]
    assert seen["applied"]["problems"] == ["the kernel granted CPUs 0-2, not 3"]
    assert seen["again"] == [0, 1, 2]


def test_in_a_cpuset_without_the_devices_node_the_nearest_is_taken(report):
    seen = report["cpuset"]
    assert seen["allowance"] == {"cpus": "0-3", "mems": "0"}
    assert_on(seen, "0-3", "prefer:0", 0)
    assert "which has no CPUs for this job: node 0 is nearest" in seen["why"]
