"""Disjoint parts of a machine for jobs that run side by side."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Cpus, NumaConfig
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.carve import cut, instances, reserve, take, take_instances, take_listed
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.nodes import Node
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.topology import Topology
from tests.numa.machines import real_machines

FOUR_NODES = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
TWO_PACKAGES = [list(range(8)), list(range(8, 16))]


def shown(slots):
    return [format_list(slot.cpus) for slot in slots]


def test_even_slots_are_whole_nodes_where_they_can_be(small):
    topology, allowance = small(FOUR_NODES, packages=TWO_PACKAGES)
    assert shown(cut(topology, allowance, 2)) == ["0-7", "8-15"]
    assert shown(cut(topology, allowance, 4)) == ["0-3", "4-7", "8-11", "12-15"]
    assert [sorted(slot.mems) for slot in cut(topology, allowance, 2)] == [[0, 1], [2, 3]]


def test_slots_are_near_the_gpus_of_their_jobs(small):
    topology, allowance = small(FOUR_NODES, packages=TWO_PACKAGES, gpus=[3, 3, 0, 0])
    gpus = topology.devices
    assert shown(cut(topology, allowance, 4, [gpus[0:2], (), gpus[2:4], ()])) == ["12-15", "4-7", "0-3", "8-11"]
    assert shown([take(topology, allowance, 2, gpus[:1])]) == ["12-13"]
    assert shown([take(topology, allowance, 4, [gpus[0], gpus[2]])]) == ["0-1,12-13"]


def test_slots_of_different_sizes_leave_whole_nodes_to_the_large_ones(small):
    topology, allowance = small(FOUR_NODES, packages=TWO_PACKAGES)
    assert shown(cut(topology, allowance, [1, 8, 3, 4])) == ["15", "0-7", "12-14", "8-11"]


def test_a_slot_takes_the_smallest_free_part_that_is_large_enough(small):
    topology, allowance = small(FOUR_NODES, packages=TWO_PACKAGES)
    first = take(topology, allowance, 3)
    free = allowance.without(first)
    assert shown([first, take(topology, free, 1), take(topology, free, 4), take(topology, free, 8)]) == [
        "0-2",
        "3",
        "4-7",
        "8-15",
    ]
    assert free.plus(first) == allowance


def test_slots_take_whole_cores(small):
    topology, allowance = small([[0, 1, 2, 3]], threads=2)
    slot = take(topology, allowance, 3)
    assert shown([slot]) == ["0-1,4-5"]


def test_a_machine_of_1024_cores_side_by_side_is_cut_too():
    cpus = {cpu: Cpu(cpu, cpu, package=None, node=0) for cpu in range(1024)}
    topology = Topology(cpus, {0: Node(0, frozenset(cpus), 1 << 30, {0: 10}, (0,))}, ())
    allowance = Allowance(frozenset(cpus), frozenset({0}))
    assert len(take(topology, allowance, 1023).cpus) == 1023
    assert [len(slot.cpus) for slot in cut(topology, allowance, 1000)].count(2) == 24
    assert len(plan(topology, allowance, NumaConfig(cpus=Cpus.core, exclusive=True), 1024)) == 1024


def test_a_slot_that_does_not_fit_is_refused(small):
    topology, allowance = small([[0, 1]])
    with pytest.raises(NumaError, match="a slot of 3 CPUs: 2 are free"):
        take(topology, allowance, 3)
    with pytest.raises(NumaError, match="3 jobs side by side: this host has 2 cores"):
        cut(topology, allowance, 3)


def test_jobs_in_slots_do_not_reserve_cores_again(small):
    topology, allowance = small([[0, 1, 2, 3], [4, 5, 6, 7]])
    settings = NumaConfig(cpus=Cpus.spread, reserve_cores=1)
    slots = cut(topology, reserve(topology, allowance, 1), 2)
    found = [one for slot in slots for one in plan(topology, slot, settings, 1)]
    assert [format_list(one.cpus) for one in found] == ["1-3", "4-7"]


def test_a_quota_is_shared_out(small):
    topology, allowance = small([[0, 1, 2, 3]])
    assert [slot.quota for slot in cut(topology, replace(allowance, quota=2.0), 4)] == [0.5] * 4


def test_cpu_instances_do_not_cross_nodes(small):
    topology, allowance = small([list(range(6)), list(range(6, 12))])
    assert shown(instances(topology, allowance)) == ["0-5", "6-11"]
    assert shown(instances(topology, allowance, cores=4)) == ["0-3", "6-9"]
    with pytest.raises(NumaError, match="cores_per_worker=7: the largest NUMA node has 6 cores"):
        instances(topology, allowance, cores=7)


def test_instances_are_taken_from_the_idlest_node_and_those_of_one_job_from_one_node(small):
    topology, allowance = small([list(range(7)), list(range(7, 14))])
    there, free = instances(topology, allowance, cores=2), allowance
    taken = []
    for count in (1, 1, 2, 1, 1):
        slot = take_instances(topology, free, there, count)
        assert slot is not None
        taken.append(slot)
        free = free.without(slot)
    assert shown(taken) == ["0-1", "7-8", "3-6", "10-11", "12-13"]
    assert take_instances(topology, free, there, 1) is None  # a core is free on node 0, but no two


def test_listed_cpus_are_a_slot_when_no_other_job_holds_one_of_them(small):
    topology, allowance = small([[0, 1, 2, 3], [4, 5, 6, 7]], cpus="0-6")
    slot = take_listed(topology, allowance, allowance, ["0-1", "5"])
    assert slot is not None
    assert (shown([slot]), set(slot.mems)) == (["0-1,5"], {0, 1})
    free = allowance.without(slot)
    assert take_listed(topology, free, allowance, ["1-2"]) is None
    assert take_listed(topology, free, allowance, ["2-4"]) is not None
    for lists, problem in ((["6-7"], "no job may use CPU 7; there are 0-6"), (["x"], "must be lists of CPUs")):
        with pytest.raises(NumaError, match=rf"explicit=\['{lists[0]}'\]: {problem}"):
            take_listed(topology, free, allowance, lists)


@pytest.mark.parametrize("name", real_machines())
def test_slots_taken_and_given_back_never_overlap(real, name):
    topology, allowance = real(name)
    dice = random.Random(5)
    free, held = allowance, list[Allowance]()
    for _ in range(60):
        if held and (dice.random() < 0.4 or not free.cpus):
            free = free.plus(held.pop(dice.randrange(len(held))))
            continue
        near = [device for device in topology.devices if dice.random() < 0.3]
        slot = take(topology, free, dice.randint(1, max(1, len(free.cpus) // 2)), near)
        assert slot.cpus <= free.cpus
        assert slot.mems <= allowance.mems
        cores = {topology.cpus[cpu].core for cpu in slot.cpus}
        assert not cores & {topology.cpus[cpu].core for other in held for cpu in other.cpus}
        free = free.without(slot)
        held.append(slot)
    for slot in held:
        free = free.plus(slot)
    assert free.cpus == allowance.cpus


@pytest.mark.parametrize("name", real_machines())
@pytest.mark.parametrize("jobs", [2, 4])
def test_workers_of_jobs_side_by_side_never_share_a_core(real, name, jobs):
    topology, allowance = real(name)
    if topology.cores(allowance.cpus) < 2 * jobs:
        pytest.skip("this machine has too few cores")
    settings = NumaConfig(cpus=Cpus.node, exclusive=True)
    found = [plan(topology, slot, settings, 1) for slot in cut(topology, allowance, jobs)]
    cores = [{topology.cpus[cpu].core for one in job for cpu in one.cpus} for job in found]
    assert all(cores)
    assert len(set().union(*cores)) == sum(map(len, cores))
