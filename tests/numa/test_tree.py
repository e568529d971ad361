"""Sharing the machine evenly: equal to hwloc-distrib where the machine is symmetric, and never less even elsewhere."""

from __future__ import annotations

import random

import pytest

from elastic_hydra.config.lists import format_list, parse_list
from elastic_hydra.numa.tree import apportion, branches, distribute, leaves, split
from tests.numa import dice as throw
from tests.numa import hwloc
from tests.numa.machines import real_machines, truth

# hwloc calls half of a Bulldozer module a core, and has a level for the caches of four small cores.
OTHER_TREES = ("64amd64-4s2n4ca2co", "20em64t-hybrid-1p6c2t+2ca4co1t")


def symmetric(topology, cpus):
    """Whether all branches of the tree are alike: else hwloc-distrib balances threads, or follows empty objects."""
    below = branches(topology, cpus)
    shapes = {(len(branch), topology.cores(branch), len(branches(topology, branch))) for branch in below}
    return len(shapes) <= 1 and all(symmetric(topology, branch) for branch in below)


@pytest.mark.parametrize("name", real_machines())
@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_parts_are_those_of_hwloc_distrib(real, name, parts):
    topology, allowance = real(name)
    expected = truth(name)["distrib"][str(parts)]
    if parts <= len(allowance.cpus) and name not in OTHER_TREES:
        assert [format_list(part) for part in hwloc.distrib(topology, allowance.cpus, parts)] == expected
    found = distribute(topology, allowance.cpus, parts)
    if symmetric(topology, allowance.cpus) and parts <= len(allowance.cpus):
        assert [format_list(part) for part in found] == expected
    else:
        theirs = [topology.cores(parse_list(part)) for part in expected]
        mine = [topology.cores(part) for part in found]
        assert max(mine) - min(mine) <= max(theirs) - min(theirs)


@pytest.mark.parametrize("name", real_machines())
def test_parts_are_disjoint_and_cover_the_machine(real, name):
    topology, allowance = real(name)
    cores = topology.cores(allowance.cpus)
    for parts in {*range(1, min(cores, 20) + 1), cores}:
        found = distribute(topology, allowance.cpus, parts)
        assert len(found) == parts
        assert all(found)
        assert sorted(cpu for part in found for cpu in part) == sorted(allowance.cpus)


def test_with_more_parts_than_cores_hardware_threads_are_given_and_then_shared(small):
    topology, allowance = small([[0, 1]], threads=2)
    assert [format_list(part) for part in distribute(topology, allowance.cpus, 4)] == ["0", "2", "1", "3"]
    assert len(distribute(topology, allowance.cpus, 7)) == 7


def test_nodes_are_below_packages_or_above_them(small, tmp_path):
    topology, allowance = small([[0, 1], [2, 3], [4, 5], [6, 7]], packages=[[0, 1, 2, 3], [4, 5, 6, 7]])
    assert [len(branch) for branch in branches(topology, allowance.cpus)] == [4, 4]
    inverse, whole = small([[0, 1, 2, 3], [4, 5, 6, 7]], packages=[[0, 1], [2, 3], [4, 5], [6, 7]])
    assert [len(branch) for branch in branches(inverse, whole.cpus)] == [4, 4]


def test_a_cache_that_spans_two_nodes_is_above_them(small):
    topology, allowance = small([[0, 2], [1, 3]], packages=[[0, 1, 2, 3]], caches=[[0, 1, 2, 3]])
    assert [format_list(core) for core in leaves(topology, allowance.cpus)] == ["0", "2", "1", "3"]


def test_cores_that_share_an_inner_cache_stay_together(small):
    topology, allowance = small([[0, 1, 2, 3]], caches=[[0, 1, 2, 3]], inner_caches=[[0, 2], [1, 3]])
    assert [format_list(part) for part in distribute(topology, allowance.cpus, 2)] == ["0,2", "1,3"]


def test_parts_that_do_not_divide_evenly_are_more_even_than_those_of_hwloc_distrib(small):
    topology, allowance = small([[core, core + 1] for core in range(0, 16, 2)])
    assert [len(part) for part in distribute(topology, allowance.cpus, 3)] == [4, 6, 6]  # hwloc-distrib: 4, 4, 8


def test_lopsided_machines_are_cut_no_less_evenly_than_by_hwloc_distrib(small):
    topology, allowance = small([list(range(24)), list(range(24, 48))], cpus="0-23,24")
    assert sorted(len(part) for part in distribute(topology, allowance.cpus, 2)) == [12, 13]
    topology, allowance = small([list(range(10))], caches=[list(range(8))])  # two cores outside the last-level cache
    assert sorted(len(part) for part in distribute(topology, allowance.cpus, 2)) == [5, 5]
    topology, allowance = small([list(range(8)), list(range(8, 16)), list(range(16, 24))], cpus="0-7,8-14,16-23")
    assert [len(part) for part in distribute(topology, allowance.cpus, 3)] == [8, 7, 8]  # borders stay borders


@pytest.mark.parametrize("name", real_machines())
def test_any_cpuset_is_cut_no_less_evenly_than_by_hwloc_distrib(real, name):
    topology, allowance = real(name)
    dice = random.Random(name)
    for _ in range(4):
        cpus = throw.cpuset(dice, topology, allowance.cpus)
        for parts in {2, 3, 4, 8, topology.cores(cpus)} - set(range(topology.cores(cpus) + 1, 9)):
            mine = [topology.cores(part) for part in distribute(topology, cpus, parts)]
            theirs = [topology.cores(part) for part in hwloc.distrib(topology, cpus, parts)]
            assert max(mine) - min(mine) <= max(theirs) - min(theirs), (format_list(cpus), parts, mine, theirs)


def test_apportion_gives_every_branch_one_part_at_least():
    assert apportion([8, 8], 3) == (2, 1)
    assert apportion([9, 1], 2) == (1, 1)
    assert apportion([12, 4], 4) == (3, 1)


def test_split_gives_the_longer_runs_first():
    assert split(range(5), 2) == ((0, 1, 2), (3, 4))
