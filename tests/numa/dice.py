"""Random machines, and random settings for them: odder than any real one, but such that a kernel could report them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Cpus, Memory, Near, NumaConfig
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.cpus import Cpu
from elastic_hydra.numa.nodes import Node
from elastic_hydra.numa.topology import Device, Topology

GIGABYTE = 1 << 30


def seeds() -> list[Any]:
    """Parameters for a test over random machines: a few are pure tests; the others take more than a moment."""
    return [pytest.param(seed, marks=[] if seed < 10 else pytest.mark.system) for seed in range(40)]


def topology(dice: random.Random) -> Topology:
    """Sparse and offline numbers, SMT of any width, nodes without CPUs, memory or a place, caches across nodes."""
    cores, threads = dice.randint(1, 24), dice.choice([1, 1, 2, 2, 4])
    numbers = sorted(dice.sample(range(2 * cores * threads), cores * threads))
    adjacent = dice.random() < 0.5
    core_of = {
        cpu: index // threads if adjacent else index % cores
        for index, cpu in enumerate(numbers)
        if dice.random() < 0.95 or index == 0
    }
    ids = sorted(dice.sample(range(300), dice.randint(1, 8)))
    placed = {core for core in range(cores) if dice.random() < 0.97}  # the node of the others is offline
    levels = {level: _grouping(dice, cores) for level in ("package", "node", "llc", "inner")}
    first: dict[tuple[str, int], int] = {}
    cpus = {}
    for cpu, core in core_of.items():
        group = {level: levels[level][core] for level in levels}
        shared = {level: first.setdefault((level, number), cpu) for level, number in group.items()}
        node = ids[group["node"] % len(ids)]
        cpus[cpu] = Cpu(
            cpu,
            first.setdefault(("core", core), cpu),
            shared["package"] if levels["package"][0] >= 0 else None,
            node if core in placed else None,
            shared["llc"],
            3,
            (shared["llc"], shared["inner"]),
        )
    distances = {(a, b): dice.choice([11, 12, 20, 21, 32]) for a in ids for b in ids if a < b}
    nodes = {
        number: Node(
            number,
            frozenset(cpu for cpu, one in cpus.items() if one.node == number),
            dice.choice([0, GIGABYTE, GIGABYTE, GIGABYTE, None]),
            {other: 10 if other == number else distances[min(number, other), max(number, other)] for other in ids},
            (number,),
            (dice.choice(ids),) if dice.random() < 0.2 else (),
        )
        for number in ids
    }
    return Topology(cpus, nodes, tuple(_device(dice, bus, ids) for bus in range(dice.choice([0, 0, 1, 2, 4, 8]))))


def allowance(dice: random.Random, machine: Topology) -> Allowance:
    """All of a machine, or what a container left of it."""
    cpus, mems = sorted(machine.cpus), sorted(machine.nodes)
    if dice.random() < 0.5:
        cpus = dice.sample(cpus, dice.randint(1, len(cpus)))
        mems = dice.sample(mems, dice.randint(1, len(mems)))
    return Allowance(frozenset(cpus), frozenset(mems), quota=dice.choice([None, None, 0.5, 3.0]))


def cpuset(dice: random.Random, machine: Topology, cpus: frozenset[int]) -> frozenset[int]:
    """Some of the CPUs: any, or of each node another fraction of its CPUs or cores."""
    if dice.random() < 0.3:
        return frozenset(dice.sample(sorted(cpus), dice.randint(1, len(cpus))))
    level = dice.choice(["core", "node"])
    found = frozenset[int]()
    for node in machine.groups("node", cpus):
        fraction = dice.choice([0, 0.1, dice.random(), 1, 1])
        units = machine.groups("core", node) if level == "core" else [frozenset((cpu,)) for cpu in node]
        found = found.union(*(unit for unit in units if dice.random() < fraction))
    return found or cpus


def settings(dice: random.Random, usable: Sequence[int], workers: int) -> NumaConfig:
    """Anything that can be written in a configuration, sense or nonsense."""
    found = NumaConfig(
        cpus=dice.choice(list(Cpus)),
        near=dice.choice(list(Near)),
        exclusive=dice.random() < 0.5,
        smt=dice.random() < 0.7,
        cores_per_worker=dice.choice([None, None, None, 1, 2, 3, 5, 0]),
        reserve_cores=dice.choice([0, 0, 0, 1, 2, 30]),
        memory=dice.choice(list(Memory)),
        threads=dice.choice(["auto", "auto", None, 3, "7", 0, "many"]),
    )
    if found.cpus == Cpus.explicit or dice.random() < 0.02:
        ranks = workers if dice.random() < 0.9 else dice.randint(0, 4)
        found.explicit = [format_list(dice.choices(usable, k=dice.randint(1, 3))) for _ in range(ranks)]
    return found


def _grouping(dice: random.Random, cores: int) -> list[int]:
    """A group for each core: runs of one size, by turns, or at random."""
    size, how = dice.randint(1, cores), dice.random()
    if how < 0.6:
        return [core // size for core in range(cores)]
    groups = -(-cores // size)
    return [core % groups if how < 0.8 else dice.randrange(groups) for core in range(cores)]


def _device(dice: random.Random, bus: int, nodes: Sequence[int]) -> Device:
    node = dice.choice([None, 999, *nodes, *nodes])
    return Device(f"0000:{bus + 1:02x}:00.0", 0x030200, 0x10DE, 0x2330, node)
