"""What holds for every plan and every slot, on random machines with random settings."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from elastic_hydra.config.numa import Cpus, Memory, Near, NumaConfig, OnError
from elastic_hydra.config.resources import Demand
from elastic_hydra.numa.allowance import Allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.carve import instances, take
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.report import render
from elastic_hydra.numa.topology import Topology
from elastic_hydra.numa.tree import distribute
from elastic_hydra.resources.slots import Slot, Slots
from tests.numa import dice as throw
from tests.numa import hwloc

ROUNDS = 25


@pytest.mark.parametrize("seed", throw.seeds())
def test_every_plan_is_right_or_refused_with_the_key(seed):
    for turn in range(ROUNDS):
        dice = random.Random(f"{seed} {turn}")
        topology = throw.topology(dice)
        allowance, workers = throw.allowance(dice, topology), dice.choice([1, 2, 3, 4, 8, 40])
        settings = throw.settings(dice, sorted(topology.cpus), workers)
        case: tuple[Any, ...] = (topology, allowance, settings, workers, topology.devices)
        lenient = plan(topology, allowance, replace(settings, on_error=OnError.warn), workers, topology.devices)
        if lenient[0].problem:
            with pytest.raises(NumaError, match=r"^hydra\.launcher\.numa\.") as refused:
                plan(*case)
            assert [one.problem for one in lenient] == [str(refused.value)] * workers, case
            _follow(str(refused.value), case)
            assert not any(one.cpus or one.nodes or one.required for one in lenient), case
            continue
        found = plan(*case)
        assert found == plan(*case), case
        assert lenient == tuple(replace(one, required=_without_cpus(one)) for one in found), case
        _check(found, topology, allowance, settings)


def _follow(text: str, case: tuple[Any, ...]) -> None:
    """Each way out that a refusal names leads to a plan; there is one where cores are missing."""
    topology, allowance, settings, workers, devices = case
    key = text.removeprefix("hydra.launcher.numa.").partition("=")[0]
    ways: list[tuple[NumaConfig, int]] = []
    if found := re.search(r"at most (\d+) workers?", text):
        ways.append((settings, int(found[1])))
        assert int(found[1]) < workers
    elif found := re.search(r"at most (\d+)", text):
        ways.append((replace(settings, **{key: int(found[1])}), workers))
    elif found := re.search(r"(\d+) workers? with (\w+)=(0|null) would fit", text):
        ways.append((replace(settings, **{found[2]: None if found[3] == "null" else 0}), int(found[1])))
    if "exclusive=false" in text:
        ways.append((replace(settings, exclusive=False), workers))
    if "or null to share" in text or text.endswith("cores_per_worker=null"):
        ways.append((replace(settings, cores_per_worker=None), workers))
    if "near=auto" in text:
        ways.append((replace(settings, near=Near.auto), workers))
    assert ways or "cores for" not in text, text
    for other, count in ways:
        assert len(plan(topology, allowance, other, count, devices)) == count, text


def _without_cpus(one: Binding) -> tuple[str, ...]:
    return tuple(kind for kind in one.required if kind != "cpus")


def _check(found: tuple[Binding, ...], topology: Topology, allowance: Allowance, settings: NumaConfig) -> None:
    case = (topology, allowance, settings, found)
    cores = [{topology.cpus[cpu].core for cpu in one.cpus} for one in found]
    for one, own in zip(found, cores, strict=True):
        assert bool(one.cpus) == (settings.cpus != Cpus.none), case
        assert set(one.cpus) <= allowance.cpus, case
        assert one.cores == len(own), case
        assert one.why, case
        assert not one.problem, case
        assert set(one.nodes) <= allowance.mems, case
        assert bool(one.nodes) == (one.memory != "none"), case
        assert one.memory in ("none", Memory(settings.memory).value), case
        if settings.threads == "auto":
            assert 1 <= (one.threads or 0) <= max(1, len(own) or topology.cores(allowance.cpus)), case
        if settings.cores_per_worker and settings.cpus != Cpus.explicit:
            assert len(own) == settings.cores_per_worker or settings.cpus in (Cpus.llc, Cpus.node, Cpus.package), case
            assert len(own) <= settings.cores_per_worker, case
        if not settings.smt:
            assert len(one.cpus) == len(own), case
    if settings.exclusive and settings.cpus not in (Cpus.none, Cpus.explicit):
        assert sum(map(len, cores)) == len(set().union(*cores)), case
    if settings.cpus == Cpus.spread and settings.cores_per_worker is None and not settings.reserve_cores:
        assert set().union(*cores) == {topology.cpus[cpu].core for cpu in allowance.cpus}, case
    if settings.threads == "auto" and settings.cpus != Cpus.none:
        # One thread is the least, however few cores there are.
        several = [one.threads for one in found if one.threads is not None and one.threads > 1]
        assert sum(several) <= len(set().union(*cores)), case
    assert render(found).count("\n") == len(found), case


@pytest.mark.parametrize("seed", throw.seeds())
def test_slots_stay_disjoint_and_nothing_is_lost(seed):
    for turn in range(ROUNDS // 5):
        dice = random.Random(f"{seed} {turn}")
        topology = throw.topology(dice)
        whole = throw.allowance(dice, topology)
        gpus = len(topology.devices)
        parallel = dice.choice([None, None, 2, 3, 8])
        slots, held = Slots(topology, whole, topology.devices, gpus, 100, dice.choice([1, 2]), parallel), list[Slot]()
        for _ in range(60):
            slot = slots.take(_demand(dice, topology, whole, gpus, parallel))
            if slot is not None:
                held.append(slot)
                _check_slots(held, topology, whole)
            if held and (slot is None or dice.random() < 0.3):
                slots.give_back(held.pop(dice.randrange(len(held))))
        for slot in held:
            slots.give_back(slot)
        everything = slots.take(Demand(gpus=gpus, cpus=len(whole.cpus), memory=100))
        assert everything is not None
        assert everything.allowance is not None
        assert everything.allowance.cpus == whole.cpus
        assert everything.allowance.quota == pytest.approx(whole.quota)


def _demand(dice: random.Random, topology: Topology, whole: Allowance, gpus: int, parallel: int | None) -> Demand:
    if parallel is not None and dice.random() < 0.5:
        return Demand(gpus=dice.randint(0, gpus))
    if dice.random() < 0.5:
        largest = max(topology.cores(node) for node in topology.groups("node", whole.cpus))
        return Demand(instances=dice.randint(1, 3), instance_cores=dice.choice([None, 1, largest]))
    if dice.random() < 0.2:
        return Demand(listed=tuple(map(str, dice.choices(sorted(whole.cpus), k=2))))
    return Demand(dice.randint(0, gpus), dice.randint(1, len(whole.cpus)), dice.randint(0, 50))


def _check_slots(held: list[Slot], topology: Topology, whole: Allowance) -> None:
    parts = [slot.allowance for slot in held if slot.allowance is not None]
    cores = [{topology.cpus[cpu].core for cpu in part.cpus} for part in parts]
    assert all(cores)
    assert sum(map(len, cores)) == len(set().union(*cores))
    assert all(part.cpus <= whole.cpus and part.mems <= whole.mems and part.mems for part in parts)
    assert sum(part.quota or 0.0 for part in parts) <= (whole.quota or 0.0) + 1e-9


@pytest.mark.parametrize("seed", throw.seeds())
def test_parts_are_no_less_even_than_those_of_hwloc_distrib(seed):
    for turn in range(ROUNDS):
        dice = random.Random(f"{seed} {turn}")
        topology = throw.topology(dice)
        cpus = throw.cpuset(dice, topology, frozenset(topology.cpus))
        cores = topology.cores(cpus)
        parts = dice.randint(1, cores)
        if not hwloc.nests(topology, cpus):
            continue
        mine, theirs = distribute(topology, cpus, parts), hwloc.distrib(topology, cpus, parts)
        assert len(mine) == parts
        assert sum(map(topology.cores, mine)) == cores
        assert _range(topology, mine) <= _range(topology, theirs), (topology, cpus, mine, theirs)


def _range(topology: Topology, parts: Sequence[frozenset[int]]) -> int:
    sizes = [topology.cores(part) for part in parts]
    return max(sizes) - min(sizes)


@pytest.mark.parametrize("seed", throw.seeds())
def test_instances_stay_on_their_nodes_and_taken_cpus_are_whole_cores(seed):
    dice = random.Random(seed)
    topology = throw.topology(dice)
    whole = throw.allowance(dice, topology)
    for cores in (None, 1, 2):
        largest = max(topology.cores(node) for node in topology.groups("node", whole.cpus))
        if cores and cores > largest:
            with pytest.raises(NumaError, match=f"cores_per_worker={cores}: the largest NUMA node has {largest} cores"):
                instances(topology, whole, cores)
            continue
        found = instances(topology, whole, cores)
        assert all(len(topology.nodes_of(one.cpus)) <= 1 for one in found)
        assert cores is None or all(topology.cores(one.cpus) == cores for one in found)
        assert sum(len(one.cpus) for one in found) == len(frozenset().union(*(one.cpus for one in found)))
    slot = take(topology, whole, dice.randint(1, len(whole.cpus)))
    assert slot.cpus == {cpu for cpu in whole.cpus if topology.cpus[cpu].core in _cores(topology, slot)}


def _cores(topology: Topology, slot: Allowance) -> set[int]:
    return {topology.cpus[cpu].core for cpu in slot.cpus}
