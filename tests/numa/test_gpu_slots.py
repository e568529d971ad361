"""GPUs and CPUs of jobs side by side: no GPU waits for CPUs, and each job's CPUs are near its GPUs."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.resources import Demand, ResourcesConfig, demand_of
from elastic_hydra.numa.allowance import read_allowance
from elastic_hydra.numa.carve import reserve
from elastic_hydra.numa.nearness import remoteness
from elastic_hydra.numa.topology import Device, read_topology
from elastic_hydra.resources.slots import Slot, Slots
from tests.numa import dice as throw
from tests.numa.cheapest import cheapest_fill
from tests.numa.machines import machine, real_machines, write

P4D = machine([list(range(24)), list(range(24, 48))], threads=2, gpus=[0] * 4 + [1] * 4)


def devices_of(topology, nodes):
    """A GPU on each of some nodes."""
    return [
        replace(Device("", 0x030200, 0x10DE, 0x2330, node), address=f"0000:{bus:02x}:00.0")
        for bus, node in enumerate(nodes)
    ]


def demand(workers, cpus, gpus, parallel, **keys):
    """What a job takes, as composed."""
    problems = Problems()
    facts = HostFacts(cpus, gpus, (2, 9), 1 << 30)
    found = demand_of(ResourcesConfig(**keys), NumaConfig(), workers, parallel, facts, problems)
    problems.raise_any()
    return found


def fill(slots, wanted):
    taken = []
    while (slot := slots.take(wanted)) is not None:
        taken.append(slot)
        assert len(taken) < 1000
    return taken


@pytest.mark.parametrize("name", real_machines())
def test_no_gpu_is_idle_while_a_job_waits(real, name):
    topology, allowance = real(name)
    dice = random.Random(name)
    nodes = [node.id for node in topology.nodes.values() if node.cpus]
    for _ in range(4):
        gpus = dice.choice([1, 2, 4, 6, 8])
        devices = [device for device in topology.devices if device.node is not None][:gpus] or devices_of(
            topology, dice.choices(nodes, k=gpus)
        )
        gpus, share = len(devices), dice.choice([1, 1, 2, 3, 4])
        reserved = dice.randint(0, min(3, topology.cores(allowance.cpus) - 1))
        left = reserve(topology, allowance, reserved)
        size = dice.randint(1, min(4, gpus))
        wanted = demand(size, len(allowance.cpus), gpus, None, jobs_per_gpu=share)
        taken = fill(Slots(topology, left, devices, gpus, 1 << 30, share, None), wanted)
        assert len(taken) == gpus * share // size
        parts = [slot.allowance for slot in taken if slot.allowance is not None]
        if gpus * share <= topology.cores(left.cpus):
            assert len(parts) == len(taken)
            assert sum(topology.cores(part.cpus) for part in parts) == len(
                {topology.cpus[cpu].core for part in parts for cpu in part.cpus}
            )
        if len(taken) * size == gpus * share and parts:
            assert frozenset().union(*(part.cpus for part in parts)) == left.cpus


@pytest.mark.parametrize("seed", throw.seeds())
def test_jobs_of_any_size_wait_for_gpus_only(seed):
    for turn in range(3):
        dice = random.Random(f"{seed} {turn}")
        topology = throw.topology(dice)
        allowance = throw.allowance(dice, topology)
        gpus, share = dice.randint(1, 8), dice.choice([1, 1, 2, 3])
        devices = devices_of(topology, dice.choices([None, *topology.nodes], k=gpus))
        slots = Slots(topology, allowance, devices, gpus, 1 << 30, share, None)
        held: list[Slot] = []
        for _ in range(40):
            size = dice.choice([1, 1, 2, 3, 4])
            slot = slots.take(Demand(gpus=size))
            jobs = [sum(gpu in one.gpus for one in held) for gpu in range(gpus)]
            assert (slot is None) == (sum(count < share for count in jobs) < size)
            if slot is not None:
                assert max(jobs[gpu] for gpu in slot.gpus) <= sorted(jobs)[size - 1]  # the idlest GPUs
                held.append(slot)
                parts = [one.allowance.cpus for one in held if one.allowance is not None]
                assert sum(map(len, parts)) == len(frozenset().union(*parts))
            if held and (slot is None or dice.random() < 0.3):
                slots.give_back(held.pop(dice.randrange(len(held))))


def test_a_job_on_a_gpu_takes_what_cpu_only_jobs_have_left_of_its_cpus(tmp_path):
    root = write(tmp_path, P4D)
    topology, allowance = read_topology(root), read_allowance(root)
    slots = Slots(topology, allowance, topology.devices, 8, 1 << 30, 1, None)
    assert len([slots.take(Demand(cpus=2)) for _ in range(3)]) == 3
    first = slots.take(demand(1, 96, 8, None))
    assert first is not None
    assert first.allowance is not None
    assert len(first.allowance.cpus) == 12  # a GPU all of whose CPUs are free, while there is one
    taken = [first, *fill(slots, demand(1, 96, 8, None))]
    assert sorted(len(slot.allowance.cpus) for slot in taken if slot.allowance) == [6, *[12] * 7]
    assert slots.take(Demand(cpus=1)) is None


def test_a_job_waits_for_the_cores_that_its_workers_cannot_do_without(tmp_path):
    root = write(tmp_path, P4D)
    topology, allowance = read_topology(root), read_allowance(root)
    slots = Slots(topology, allowance, topology.devices, 8, 1 << 30, 1, None)
    held = slots.take(Demand(cpus=90))
    assert slots.take(Demand(gpus=1, cores=4)) is None
    assert held is not None
    slots.give_back(held)
    assert len(fill(slots, Demand(gpus=1, cores=4))) == 8


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5, 6, 7), (4, 5, 6, 7, 0, 1, 2, 3), (7, 0, 6, 1, 5, 2, 4, 3)])
@pytest.mark.parametrize(("workers", "parallel"), [(1, 4), (1, 8), (2, 4), (4, 2), (1, None), (2, None), (4, None)])
def test_jobs_have_cpus_of_the_nodes_of_their_gpus_in_any_order(tmp_path, order, workers, parallel):
    root = write(tmp_path, P4D)
    topology, allowance = read_topology(root), read_allowance(root)
    devices = [topology.devices[gpu] for gpu in order]
    taken = fill(Slots(topology, allowance, devices, 8, 1 << 30, 1, parallel), demand(workers, 96, 8, parallel))
    assert len(taken) == min(8 // workers, parallel or 8)
    for slot in taken:
        assert slot.allowance is not None
        assert {devices[gpu].node for gpu in slot.gpus} == set(topology.nodes_of(slot.allowance.cpus))


@pytest.mark.parametrize("seed", throw.seeds())
def test_each_slot_is_as_near_as_any_other_choice_would_be(seed):
    for turn in range(5):
        dice = random.Random(f"{seed} {turn}")
        topology = throw.topology(dice)
        allowance = throw.allowance(dice, topology)
        gpus = dice.randint(1, 6)
        devices = devices_of(topology, dice.choices([None, *topology.nodes], k=gpus))
        parallel, size = dice.randint(2, 5), dice.randint(1, min(3, gpus))
        if parallel > topology.cores(allowance.cpus):
            continue
        slots = Slots(topology, allowance, devices, gpus, 1 << 30, 1, parallel)
        places = [slot.allowance.cpus for slot in fill(slots, Demand()) if slot.allowance]
        slots = Slots(topology, allowance, devices, gpus, 1 << 30, 1, parallel)
        taken = [(slot.allowance.cpus, slot.gpus) for slot in fill(slots, Demand(gpus=size)) if slot.allowance]
        costs = [[remoteness(topology, place, one.node) for one in devices] for place in places]
        spent = [sum(costs[places.index(cpus)][gpu] for gpu in chosen) for cpus, chosen in taken]
        assert len(taken) == min(parallel, gpus // size)
        assert sum(spent) == cheapest_fill(costs, size), (topology, devices, places, taken)


@pytest.mark.parametrize("seed", throw.seeds())
def test_cpus_asked_for_by_number_are_the_nearest_that_are_free(seed):
    dice = random.Random(seed)
    topology = throw.topology(dice)
    allowance = throw.allowance(dice, topology)
    nodes = list(topology.nodes)
    devices = devices_of(topology, dice.choices(nodes, k=4))
    slots, free = Slots(topology, allowance, devices, 4, 1 << 30, 1, None), allowance
    for _ in range(4):
        cpus = dice.randint(1, len(allowance.cpus))
        slot = slots.take(Demand(gpus=1, cpus=cpus))
        if slot is None:
            assert len(free.cpus) < cpus
            continue
        assert slot.allowance is not None
        (gpu,) = slot.gpus
        held = slot.allowance.cpus
        apart = sorted(remoteness(topology, frozenset((cpu,)), devices[gpu].node) for cpu in free.cpus)
        whole = {topology.cpus[cpu].core for cpu in held}
        spent = sorted(remoteness(topology, frozenset((cpu,)), devices[gpu].node) for cpu in held)
        assert spent[:cpus] == apart[:cpus]
        assert held == {cpu for cpu in free.cpus if topology.cpus[cpu].core in whole}
        free = free.without(slot.allowance)
