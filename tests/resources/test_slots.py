"""Handing out parts of the host; no processes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.nodes import Node
from elastic_hydra.numa.topology import Device, Topology
from elastic_hydra.resources.slots import Slot, Slots, cuda_visible_devices


def host(cpus: int = 8, gpus: int = 0, *, parallel: int | None = None, jobs_per_gpu: int = 1, name: str = "") -> Slots:
    """A host of two nodes, each with half of the CPUs and of the GPUs."""
    half = max(1, cpus // 2)
    known = {cpu: Cpu(cpu, cpu, package=cpu // half, node=cpu // half, llc=cpu // half) for cpu in range(cpus)}
    cpus_of_node = [frozenset(cpu for cpu in known if cpu // half == node) for node in (0, 1)]
    nodes = {node: Node(node, cpus_of_node[node], 1 << 30, {node: 10, 1 - node: 20}) for node in (0, 1)}
    devices = [Device(f"0000:0{gpu}:00.0", 0x030000, 0x10DE, 0, gpu * 2 // gpus) for gpu in range(gpus)]
    allowance = Allowance(frozenset(known), frozenset(nodes))
    return Slots(Topology(known, nodes, tuple(devices)), allowance, devices, gpus, 100, jobs_per_gpu, parallel, name)


def take_all(slots: Slots, demand: Demand) -> list[Slot]:
    taken = []
    while (slot := slots.take(demand)) is not None:
        taken.append(slot)
        assert len(taken) < 100
    return taken


def cpus_of(slot: Slot) -> frozenset[int]:
    assert slot.allowance is not None
    return frozenset(slot.allowance.cpus)


def test_parallel_jobs_get_equal_and_disjoint_shares() -> None:
    taken = take_all(host(8, parallel=4), Demand())
    assert [len(cpus_of(slot)) for slot in taken] == [2, 2, 2, 2]
    assert len(frozenset.union(*map(cpus_of, taken))) == 8


def test_a_job_alone_is_not_confined() -> None:
    (slot,) = take_all(host(8, parallel=1), Demand())
    assert slot.allowance is None


def test_more_jobs_than_cores_share_all_of_them() -> None:
    taken = take_all(host(2, parallel=5), Demand())
    assert [slot.allowance for slot in taken] == [None] * 5


def test_auto_fills_the_machine() -> None:
    assert len(take_all(host(8), Demand(cpus=3))) == 2
    assert len(take_all(host(8, 4), Demand(gpus=2, cpus=4))) == 2
    assert len(take_all(host(8), Demand(cpus=1, memory=40))) == 2


def test_gpus_are_disjoint_unless_jobs_may_share_them() -> None:
    assert sorted(gpu for slot in take_all(host(8, 4), Demand(gpus=1, cpus=1)) for gpu in slot.gpus) == [0, 1, 2, 3]
    shared = take_all(host(16, 4, jobs_per_gpu=2), Demand(gpus=1, cpus=1))
    assert sorted(gpu for slot in shared for gpu in slot.gpus) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_jobs_gpus_and_cpus_are_on_one_node_while_that_is_possible() -> None:
    slots = host(8, 4)
    one = slots.take(Demand(gpus=1, cpus=2))
    two = slots.take(Demand(gpus=2, cpus=4))
    assert one is not None
    assert two is not None
    node = one.gpus[0] // 2
    assert {cpu // 4 for cpu in cpus_of(one)} == {node}
    assert {gpu // 2 for gpu in two.gpus} == {1 - node}
    assert {cpu // 4 for cpu in cpus_of(two)} == {1 - node}


def test_what_is_given_back_can_be_taken_again() -> None:
    slots, rng, held = host(8, 4), random.Random(0), list[Slot]()
    for _ in range(500):
        demand = Demand(gpus=rng.randint(0, 2), cpus=rng.choice([1, 2, 4]), memory=rng.randint(0, 30))
        slot = slots.take(demand)
        if slot is not None:
            held.append(slot)
            assert sum(len(cpus_of(one)) for one in held) == len(frozenset.union(*map(cpus_of, held)))
            assert len({gpu for one in held for gpu in one.gpus}) == sum(len(one.gpus) for one in held)
        elif held:
            slots.give_back(held.pop(rng.randrange(len(held))))
    for slot in held:
        slots.give_back(slot)
    everything = slots.take(Demand(gpus=4, cpus=8, memory=100))
    assert everything is not None


def test_jobs_with_and_without_a_number_of_cpus_do_not_meet() -> None:
    slots = host(8, parallel=2)
    first, second = slots.take(Demand(cpus=2)), slots.take(Demand())
    assert first is not None
    assert second is not None
    assert not cpus_of(first) & cpus_of(second)


ONE_GPU = Demand(gpus=1)
# Each demand, and the GPUs and CPUs that it gets of a host with CPUs 0-3 and half of the GPUs on one node, the rest on
# the other one.
TAKEN: list[tuple[dict[str, Any], list[tuple[Demand, tuple[tuple[int, ...], str | None] | None]]]] = [
    # CPUs: of one node while that has enough.
    ({}, [(Demand(cpus=3), ((), "0-2")), (Demand(cpus=5), ((), "3-7")), (Demand(cpus=1), None)]),
    ({}, [(Demand(cpus=3), ((), "0-2")), (Demand(cpus=4), ((), "4-7")), (Demand(cpus=1), ((), "3"))]),
    ({}, [(Demand(cpus=1, memory=60), ((), "0")), (Demand(cpus=1, memory=41), None)]),
    ({}, [(Demand(cpus=1, memory=60), ((), "0")), (Demand(cpus=1, memory=40), ((), "1"))]),
    # So many jobs at once have equal shares, the smallest first; with more jobs than cores nobody is confined.
    ({"parallel": 1}, [(Demand(), ((), None)), (Demand(), None)]),
    ({"parallel": 3}, [(Demand(), ((), "0-1")), (Demand(), ((), "2-3")), (Demand(), ((), "4-7")), (Demand(), None)]),
    ({"parallel": 2}, [(Demand(cpus=5), ((), "0-4")), (Demand(), None), (Demand(cpus=1), ((), "5"))]),
    ({"parallel": 8}, [(Demand(), ((), "0")), (Demand(), ((), "1"))]),
    ({"parallel": 9}, [(Demand(), ((), None)), (Demand(), ((), None))]),
    ({"parallel": 2, "gpus": 4}, [(Demand(gpus=2), ((0, 1), "0-3")), (Demand(gpus=2), ((2, 3), "4-7"))]),
    # GPUs with the CPUs that belong to them, while there are as many cores as jobs.
    ({"gpus": 4}, [(ONE_GPU, ((gpu,), f"{2 * gpu}-{2 * gpu + 1}")) for gpu in range(4)] + [(ONE_GPU, None)]),
    ({"gpus": 4}, [(ONE_GPU, ((0,), "0-1")), (Demand(gpus=2), ((2, 3), "4-7")), (Demand(gpus=2), None)]),
    ({"gpus": 4}, [(Demand(gpus=3), ((0, 1, 2), "0-5")), (ONE_GPU, ((3,), "6-7"))]),
    ({"gpus": 4}, [(Demand(cpus=7), ((), "0-6")), (Demand(gpus=1, cores=2), None), (ONE_GPU, ((3,), "7"))]),
    (
        {"gpus": 4, "jobs_per_gpu": 2},
        [(ONE_GPU, ((gpu,), str(2 * gpu + turn))) for turn in (0, 1) for gpu in range(4)] + [(ONE_GPU, None)],
    ),
    ({"gpus": 4, "jobs_per_gpu": 3}, [(ONE_GPU, ((gpu % 4,), None)) for gpu in range(12)] + [(ONE_GPU, None)]),
    # GPUs with a number of CPUs: near each other.
    (
        {"gpus": 4},
        [
            (Demand(gpus=1, cpus=2), ((0,), "0-1")),
            (Demand(gpus=2, cpus=6), ((2, 3), "2-7")),
            (Demand(gpus=1, cpus=1), None),
        ],
    ),
    (
        {"gpus": 4},
        [
            (Demand(gpus=2, cpus=2), ((0, 1), "0-1")),
            (Demand(gpus=2, cpus=2), ((2, 3), "4-5")),
            (Demand(cpus=4), ((), "2-3,6-7")),
        ],
    ),
    ({"gpus": 4}, [(Demand(gpus=4, cpus=6), ((0, 1, 2, 3), "0-5"))]),
    # CPUs that are listed, and cores of one node for each of several workers.
    (
        {},
        [
            (Demand(listed=("0-1", "4")), ((), "0-1,4")),
            (Demand(listed=("1",)), None),
            (Demand(listed=("2", "3")), ((), "2-3")),
        ],
    ),
    ({}, [(Demand(instances=2), ((), "0-7")), (Demand(instances=1), None)]),
    (
        {},
        [(Demand(instances=1, instance_cores=3), ((), cpus)) for cpus in ("0-2", "4-6")]
        + [(Demand(instances=1, instance_cores=3), None)],
    ),
    ({}, [(Demand(instances=3), None)]),
]


@pytest.mark.parametrize(("settings", "steps"), TAKEN)
def test_who_gets_what_of_a_host_now_and_when_all_is_given_back(
    settings: dict[str, Any], steps: list[tuple[Demand, tuple[tuple[int, ...], str | None] | None]]
) -> None:
    slots = host(**settings, name="here")
    for _ in range(2):
        held = []
        for demand, expected in steps:
            slot = slots.take(demand)
            if slot is None:
                assert expected is None, demand
                continue
            held.append(slot)
            assert (slot.gpus, slot.allowance and format_list(slot.allowance.cpus)) == expected, demand
            assert (slot.memory, slot.host) == (demand.memory, "here")
        for slot in held:
            slots.give_back(slot)


def test_what_a_host_does_not_have_is_refused() -> None:
    with pytest.raises(NumaError, match=r"explicit=\['9'\]: no job may use CPU 9; there are 0-7"):
        host().take(Demand(listed=("9",)))
    with pytest.raises(NumaError, match="cores_per_worker=5: the largest NUMA node has 4 cores"):
        host().take(Demand(instances=1, instance_cores=5))


@pytest.mark.parametrize(
    ("environ", "names"),
    [({}, "1,3"), ({"CUDA_VISIBLE_DEVICES": "4,5, GPU-ab,7"}, "5,7"), ({"CUDA_VISIBLE_DEVICES": "4,, 5"}, "5,3")],
)
def test_gpus_are_named_as_the_launcher_sees_them(environ: dict[str, str], names: str) -> None:
    assert cuda_visible_devices(Slot(gpus=(1, 3)), environ) == names
