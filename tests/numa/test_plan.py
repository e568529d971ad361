"""Which CPUs each worker gets, and why."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Cpus, Memory, Near, NumaConfig, OnError
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.report import render
from tests.numa.conftest import ReadSmall
from tests.numa.machines import real_machines

TWO_NODES = [[0, 1, 2, 3], [4, 5, 6, 7]]


def cpus(bindings):
    return [format_list(binding.cpus) for binding in bindings]


def settings(**keys):
    return NumaConfig(**keys)


class TestPlacement:
    def test_none_binds_nothing_and_shares_the_threads(self, small: ReadSmall):
        bindings = plan(*small(TWO_NODES, threads=2), settings(), 2)
        assert [(one.cpus, one.memory, one.threads) for one in bindings] == [((), "none", 4)] * 2

    def test_spread_cuts_evenly(self, small: ReadSmall):
        assert cpus(plan(*small(TWO_NODES, threads=2), settings(cpus=Cpus.spread), 4)) == [
            "0-1,8-9",
            "2-3,10-11",
            "4-5,12-13",
            "6-7,14-15",
        ]

    def test_without_gpus_workers_are_placed_evenly_over_nodes(self, small: ReadSmall):
        host = small([[0, 1], [2, 3], [4, 5], [6, 7]], packages=TWO_NODES)
        assert cpus(plan(*host, settings(cpus=Cpus.node), 2)) == ["0-1", "4-5"]
        assert cpus(plan(*host, settings(cpus=Cpus.package), 2)) == ["0-3", "4-7"]
        assert cpus(plan(*host, settings(cpus=Cpus.node), 5)) == ["0-1", "0-1", "2-3", "4-5", "6-7"]

    def test_workers_stay_with_their_gpus(self, small: ReadSmall):
        topology, allowance = small(TWO_NODES, gpus=[1, 1, 0])
        found = plan(topology, allowance, settings(cpus=Cpus.node), 3, topology.devices)
        assert cpus(found) == ["4-7", "4-7", "0-3"]
        assert found[0].device == "0000:01:00.0"
        assert found[0].why == "node 1, shared by 2 workers; its GPU is on node 1"

    def test_exclusive_workers_share_a_node_out_by_cores(self, small: ReadSmall):
        topology, allowance = small([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], threads=2, gpus=[0, 0, 1])
        found = plan(topology, allowance, settings(cpus=Cpus.node, exclusive=True), 3, topology.devices)
        assert cpus(found) == ["0-2,10-12", "3-4,13-14", "5-9,15-19"]
        assert [one.threads for one in found] == [3, 2, 5]

    def test_spread_gives_each_worker_the_part_closest_to_its_gpu(self, small: ReadSmall):
        nodes = [[0, 1], [2, 3], [4, 5], [6, 7]]
        near, far = 12, 32
        distances = [[10 if a == b else near if a // 2 == b // 2 else far for b in range(4)] for a in range(4)]
        topology, allowance = small(nodes, packages=TWO_NODES, distances=distances, gpus=[3, 3, 1, 1])
        found = plan(topology, allowance, settings(cpus=Cpus.spread), 4, topology.devices)
        assert cpus(found) == ["6-7", "4-5", "2-3", "0-1"]

    def test_last_level_caches_are_taken_in_turn(self, small: ReadSmall):
        host = small([[0, 1, 2, 3]], caches=[[0, 1], [2, 3]], gpus=[0, 0, 0])
        found = plan(*host, settings(cpus=Cpus.llc), 3, host[0].devices)
        assert cpus(found) == ["0-1", "2-3", "0-1"]
        assert [one.threads for one in found] == [1, 2, 1]

    def test_cores_are_given_side_by_side_within_nodes(self, small: ReadSmall):
        host = small([[0, 1, 2], [3, 4, 5]])
        assert cpus(plan(*host, settings(cpus=Cpus.core), 3)) == ["0", "1", "2"]
        assert cpus(plan(*host, settings(cpus=Cpus.core, cores_per_worker=2), 2)) == ["0-1", "3-4"]
        assert cpus(plan(*host, settings(cpus=Cpus.core, cores_per_worker=2), 3)) == ["0-1", "2-3", "4-5"]

    def test_workers_of_a_size_do_not_cross_nodes_while_enough_fit(self, small: ReadSmall):
        host = small([list(range(14)), list(range(14, 28))])
        found = plan(*host, settings(cpus=Cpus.spread, cores_per_worker=4), 6)
        assert [len(host[0].nodes_of(one.cpus)) for one in found] == [1] * 6
        assert cpus(found)[:2] == ["0-3", "5-8"]
        assert cpus(plan(*host, settings(cpus=Cpus.spread, cores_per_worker=4), 2)) == ["0-3", "14-17"]
        crossing = plan(*host, settings(cpus=Cpus.spread, cores_per_worker=4), 7)
        assert sorted(cpu for one in crossing for cpu in one.cpus) == list(range(28))

    def test_one_hardware_thread_per_core(self, small: ReadSmall):
        found = plan(*small(TWO_NODES, threads=2), settings(cpus=Cpus.spread, smt=False), 2)
        assert cpus(found) == ["0-3", "4-7"]
        assert [one.threads for one in found] == [4, 4]

    def test_reserved_cores_are_the_first_ones_and_are_kept_back_once(self, small: ReadSmall):
        topology, allowance = small([[0, 1, 2, 3]], threads=2)
        keys = settings(cpus=Cpus.spread, reserve_cores=1)
        assert cpus(plan(topology, allowance, keys, 1)) == ["1-3,5-7"]
        kept = replace(allowance, cpus=frozenset({1, 5}), reserved=frozenset({0, 4}))
        assert cpus(plan(topology, kept, keys, 1)) == ["1,5"]

    def test_explicit_lists_are_taken_as_they_are(self, small: ReadSmall):
        keys = settings(cpus=Cpus.explicit, explicit=["0-1", "4,6"])
        assert cpus(plan(*small(TWO_NODES), keys, 2)) == ["0-1", "4,6"]


class TestAwkwardMachines:
    def test_a_gpu_whose_node_has_no_cpus_for_the_job_goes_to_the_nearest(self, small: ReadSmall):
        distances = [[10, 12, 32], [12, 10, 32], [32, 32, 10]]
        topology, allowance = small([[0, 1], [2, 3], [4, 5]], distances=distances, cpus="0-1,4-5", gpus=[1])
        found = plan(topology, allowance, settings(cpus=Cpus.node), 1, topology.devices)
        assert cpus(found) == ["0-1"]
        assert "its GPU is on node 1, which has no CPUs for this job: node 0 is nearest" in found[0].why

    def test_gpus_of_unknown_place_are_spread_and_not_put_on_node_0(self, small: ReadSmall):
        topology, allowance = small(TWO_NODES, gpus=[None, None])
        found = plan(topology, allowance, settings(cpus=Cpus.node), 2, topology.devices)
        assert cpus(found) == ["0-3", "4-7"]
        assert "unknown" in found[0].why

    def test_a_gpu_of_unknown_place_beside_known_ones_goes_where_the_fewest_workers_are(self, small: ReadSmall):
        topology, allowance = small(TWO_NODES, gpus=[None, 0])
        assert cpus(plan(topology, allowance, settings(cpus=Cpus.node), 2, topology.devices)) == ["4-7", "0-3"]

    def test_cpus_of_a_node_without_memory_take_it_from_the_nearest(self, small: ReadSmall):
        host = small([[0, 1], [], []], memory=[0, 4, 4], distances=[[10, 30, 20], [30, 10, 20], [20, 20, 10]])
        found = plan(*host, settings(cpus=Cpus.node, memory=Memory.preferred), 1)
        assert found[0].nodes == (2,)
        assert "node 0 has no memory for this job: node 2 is nearest" in found[0].why

    def test_memory_only_nodes_are_not_used_by_default(self, small: ReadSmall):
        host = small([[0, 1], []])
        assert plan(*host, settings(cpus=Cpus.spread, memory=Memory.interleave), 1)[0].nodes == (0,)

    def test_memory_outside_the_cpuset_is_not_asked_for(self, small: ReadSmall):
        found = plan(*small(TWO_NODES, mems="0"), settings(cpus=Cpus.spread, memory=Memory.bind), 2)
        assert [one.nodes for one in found] == [(0,), (0,)]

    def test_a_quota_limits_the_threads(self, small: ReadSmall):
        topology, allowance = small([list(range(16))])
        quota = replace(allowance, quota=4.0)
        assert [one.threads for one in plan(topology, quota, settings(cpus=Cpus.spread), 2)] == [2, 2]

    def test_more_workers_than_gpus_take_turns(self, small: ReadSmall):
        topology, allowance = small(TWO_NODES, gpus=[0, 1])
        found = plan(topology, allowance, settings(cpus=Cpus.node, exclusive=True), 4, topology.devices)
        assert cpus(found) == ["0-1", "4-5", "2-3", "6-7"]

    def test_packages_that_lie_across_nodes_are_shared_out_without_overlap(self, small: ReadSmall):
        topology, allowance = small([[0, 1], [2, 3, 4, 5], [6, 7]], packages=[[0, 1, 2, 3], [4, 5, 6, 7]], gpus=[0, 1])
        found = plan(topology, allowance, settings(cpus=Cpus.package, exclusive=True), 2, topology.devices)
        assert cpus(found) == ["0-3", "4-7"]

    def test_fewer_workers_than_gpus_get_the_whole_node(self, small: ReadSmall):
        topology, allowance = small(TWO_NODES, gpus=[0, 0, 1, 1])
        found = plan(topology, allowance, settings(cpus=Cpus.node, exclusive=True), 1, topology.devices)
        assert cpus(found) == ["0-3"]


@pytest.mark.parametrize("name", real_machines())
@pytest.mark.parametrize("mode", [Cpus.package, Cpus.node, Cpus.llc, Cpus.core, Cpus.spread])
class TestEveryMachine:
    def test_shared_bindings_are_always_possible(self, real, name, mode):
        topology, allowance = real(name)
        for workers in (1, 2, 3, 8, 40):
            for devices in ((), topology.devices):
                found = plan(topology, allowance, settings(cpus=mode, memory=Memory.preferred), workers, devices)
                self.check(found, allowance, workers)

    def test_exclusive_bindings_are_disjoint_and_possible_while_there_are_cores(self, real, name, mode):
        topology, allowance = real(name)
        cores = topology.cores(allowance.cpus)
        for workers in {1, 2, 3, 8, cores}:
            keys = settings(cpus=mode, exclusive=True, memory=Memory.preferred)
            if workers > cores:
                with pytest.raises(NumaError, match="exclusive=true"):
                    plan(topology, allowance, keys, workers)
                continue
            found = plan(topology, allowance, keys, workers)
            self.check(found, allowance, workers)
            taken = [{topology.cpus[cpu].core for cpu in one.cpus} for one in found]
            assert len(set().union(*taken)) == sum(map(len, taken))

    @staticmethod
    def check(found, allowance, workers):
        assert len(found) == workers
        assert all(one.cpus and set(one.cpus) <= allowance.cpus for one in found)
        assert all(one.threads and one.threads >= 1 for one in found)
        assert all(set(one.nodes) <= allowance.mems for one in found)
        assert render(found).count("\n") == workers


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "workers", "text"),
        [
            ({"cpus": Cpus.spread, "cores_per_worker": 9}, 2, "=9: this job has 8 cores for 2 workers; at most 4"),
            ({"cpus": Cpus.spread, "exclusive": True}, 9, "=true: this job has 8 cores for 9 workers; at most 8"),
            ({"cpus": "nod"}, 1, "cpus=nod: must be one of none, package, node, .* .did you mean node.."),
            ({"cpus": Cpus.node, "near": Near.gpu}, 1, "near=gpu: this job sees no accelerator; near=auto would"),
            ({"cpus": Cpus.explicit}, 1, "cpus=explicit needs one list"),
            ({"cpus": Cpus.explicit, "explicit": ["0-1"]}, 2, r"explicit=\['0-1'\]: 1 lists for 2 workers"),
            ({"cpus": Cpus.explicit, "explicit": ["6-9"]}, 1, "rank 0 may not use CPU 8-9; this job has 0-7"),
            ({"cpus": Cpus.explicit, "explicit": ["0-1", "1"], "exclusive": True}, 2, "CPU 1 is in two lists"),
            ({"cpus": Cpus.explicit, "explicit": ["x"]}, 1, "'x' is not a list of CPUs"),
            ({"cpus": Cpus.node, "explicit": ["0"]}, 1, "read only with hydra.launcher.numa.cpus=explicit"),
            ({"cpus": Cpus.spread, "reserve_cores": 8}, 1, "reserve_cores=8: this host has 8 cores; at most 7"),
            ({"threads": 0}, 1, "threads=0: must be auto, a number of 1 or more, or null"),
            ({"threads": "many"}, 1, "threads=many: must be auto"),
            ({"cores_per_worker": 2}, 1, "cores_per_worker=2: has no meaning with hydra.launcher.numa.cpus=none"),
            ({"cpus": Cpus.core, "cores_per_worker": 5, "exclusive": True}, 2, "8 cores for 2 workers; at most 4"),
        ],
    )
    def test_the_error_names_the_key_and_what_would_work(self, small: ReadSmall, keys, workers, text):
        with pytest.raises(NumaError, match=text):
            plan(*small(TWO_NODES), settings(**keys), workers)

    def test_advice_has_been_tried(self, small: ReadSmall):
        host = small([list(range(36)), list(range(36, 72))])
        keys = settings(cpus=Cpus.spread, near=Near.none, cores_per_worker=4, exclusive=True, smt=False)
        with pytest.raises(
            NumaError, match=r"exclusive=true: this job has 72 cores for 100 workers; at most 18 workers$"
        ):
            plan(*host, keys, 100)
        assert len(plan(*host, keys, 18)) == 18
        with pytest.raises(NumaError, match=r"this host has 72 cores; 18 workers with reserve_cores=0 would fit$"):
            plan(*host, replace(keys, reserve_cores=99), 100)
        with pytest.raises(NumaError, match=r"reserve_cores=99: this host has 72 cores; at most 32$"):
            plan(*host, replace(keys, reserve_cores=99), 10)

    @pytest.mark.parametrize(
        ("sizes", "workers", "size", "cores"),
        [((4, 1), 4, None, 4), ((4, 1), 5, None, 5), ((1, 4, 2), 3, 2, 6), ((5, 3, 2), 9, None, 9), ((1, 4), 1, 4, 4)],
    )
    @pytest.mark.parametrize("gpus", [(), (0,)])
    def test_unequal_caches_are_shared_out_by_their_room(self, small: ReadSmall, sizes, workers, size, cores, gpus):
        starts = [sum(sizes[:end]) for end in range(len(sizes) + 1)]
        caches = [list(range(first, last)) for first, last in pairwise(starts)]
        topology, allowance = small([list(range(sum(sizes)))], caches=caches, gpus=gpus)
        keys = settings(cpus=Cpus.llc, exclusive=True, cores_per_worker=size)
        found = plan(topology, allowance, keys, workers, topology.devices)
        assert len(set().union(*(one.cpus for one in found))) == sum(one.cores for one in found) >= cores

    def test_more_exclusive_workers_than_a_gpus_node_has_cores(self, small: ReadSmall):
        topology, allowance = small([[0, 1], [2, 3, 4, 5, 6, 7]], gpus=[0, 0, 0])
        with pytest.raises(NumaError, match="exclusive=true: node 0 has 2 cores for 3 workers; at most 2 workers"):
            plan(topology, allowance, settings(cpus=Cpus.node, exclusive=True), 3, topology.devices)

    def test_with_on_error_warn_the_workers_start_unbound_and_know_why(self, small: ReadSmall):
        keys = settings(cpus=Cpus.spread, exclusive=True, on_error=OnError.warn)
        found = plan(*small(TWO_NODES), keys, 9)
        assert [(one.cpus, one.threads) for one in found] == [((), 1)] * 9
        assert "this job has 8 cores for 9 workers" in found[0].problem
        assert render(found).count("9 workers") == 1


def test_the_table_shows_a_plan(small):
    topology, allowance = small(TWO_NODES, threads=2, gpus=[1, 0])
    found = plan(topology, allowance, settings(cpus=Cpus.node, memory=Memory.preferred), 2, topology.devices)
    assert render(found).splitlines() == [
        "rank  CPUs       cores  threads  memory       GPU           why",
        "   0  4-7,12-15      4        4  preferred 1  0000:01:00.0  node 1; its GPU is on node 1",
        "   1  0-3,8-11       4        4  preferred 0  0000:02:00.0  node 0; its GPU is on node 0",
    ]
