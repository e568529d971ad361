"""Reading a machine: against hwloc on real ones, and each trap of the file formats on small ones."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from elastic_hydra.config.lists import format_list, parse_list
from elastic_hydra.config.numa import Cpus, NumaConfig, OnError
from elastic_hydra.numa.allowance import read_allowance
from elastic_hydra.numa.errors import TopologyError
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.numa.sysfs import parse_mask, read_set
from elastic_hydra.numa.topology import read_topology
from tests.numa.machines import machine, real_machines, truth, write

# hwloc calls half a Bulldozer module a core; the kernel calls the module one.
MODULES = {"64amd64-4s2n4ca2co": 32, "64amd64-4p2n4ca2co": 32, "amd64-4p2n4ca2co-x86linux": 32}


@pytest.mark.parametrize("name", real_machines())
class TestRealMachines:
    def test_counts_are_those_of_hwloc(self, real, name):
        topology, allowance = real(name)
        expected = truth(name)
        cpus = allowance.cpus
        assert len(cpus) == expected["pus"]
        assert topology.cores(cpus) == MODULES.get(name, expected["cores"])
        assert len(allowance.mems & topology.nodes.keys() or topology.nodes) == expected["numa_nodes"]
        whole = expected.get("include_disallowed", {"counts": expected})["counts"]
        assert len(topology.groups("package")) == whole["packages"]

    def test_nodes_have_the_cpus_and_memory_that_hwloc_says(self, real, name):
        topology, allowance = real(name)
        for number, node in truth(name)["nodes"].items():
            mine = topology.nodes[int(number)]
            near = topology.local_cpus(mine.id)  # hwloc gives memory-only nodes the CPUs that are nearest to them
            assert format_list(near & allowance.cpus if mine.cpus else near) == node["cpus"]
            if "local_memory" in node and len(mine.mems) == 1:
                assert mine.memory == node["local_memory"]

    def test_caches_and_cores_group_the_cpus_as_hwloc_says(self, real, name):
        topology, allowance = real(name)
        expected = truth(name)
        if "l3_groups" in expected:
            with_l3 = [cpu for cpu in allowance.cpus if topology.cpus[cpu].llc_level == 3]
            assert {format_list(group) for group in topology.groups("llc", with_l3)} == set(expected["l3_groups"])
        if "core_groups" in expected and name not in MODULES:
            cores = {format_list(group) for group in topology.groups("core", allowance.cpus)}
            assert cores == set(expected["core_groups"])

    def test_devices_hang_on_the_nodes_that_hwloc_says(self, real, name):
        topology, _ = real(name)
        accelerators = ("03", "12", "0b40")
        devices = truth(name)["pci"].items()
        expected = {address: pci["nodes"] for address, pci in devices if pci["cls"].startswith(accelerators)}
        found = {device.address: device.node for device in topology.devices}
        assert found.keys() == expected.keys()
        for address, nodes in expected.items():
            anywhere = len(parse_list(nodes)) > 1  # "any of these": the kernel does not know, and we do not guess
            assert found[address] == (None if anywhere else int(nodes))


def test_a_mask_is_read_like_the_list_it_stands_for():
    assert parse_mask("00000001,80000003") == (0, 1, 31, 32)
    assert parse_mask("0000,00000000,0000ffff") == tuple(range(16))
    assert parse_list("0-2,8\0\n") == (0, 1, 2, 8)
    assert format_list({8, 2, 1, 0}) == "0-2,8"


def test_masks_are_preferred_to_lists_and_new_names_to_old_ones(tmp_path):
    write(tmp_path, {"core_cpus_list": "0-2", "thread_siblings": "3"})  # the list ends where the page ended
    assert read_set(tmp_path, "core_cpus", "thread_siblings") == frozenset({0, 1})
    write(tmp_path, {"core_cpus": "11"})
    assert read_set(tmp_path, "core_cpus", "thread_siblings") == frozenset({0, 4})


def test_a_kernel_with_masks_only_is_read(tmp_path):
    files = machine([[0, 1], [2, 3]], threads=2, caches=[[0, 1], [2, 3]])
    lists = {name: text for name, text in files.items() if name.endswith(("_list", "cpulist"))}
    masks = {
        name.removesuffix("_list").replace("cpulist", "cpumap").replace("shared_cpu", "shared_cpu_map"): f"{mask:08x}"
        for name, text in lists.items()
        for mask in [sum(1 << cpu for cpu in parse_list(text))]
    }
    with_lists = read_topology(write(tmp_path / "lists", files))
    rest = {name: text for name, text in files.items() if name not in lists}
    assert read_topology(write(tmp_path / "masks", rest | masks)) == with_lists


def test_offline_cpus_and_nodes_are_left_out(tmp_path):
    files = machine([[0, 1], [2, 3]])
    files |= {"sys/devices/system/cpu/online": "1-3", "sys/devices/system/node/online": "1"}
    topology = read_topology(write(tmp_path, files))
    assert set(topology.cpus) == {1, 2, 3}
    assert set(topology.nodes) == {1}
    assert topology.cpus[1].node is None


def test_a_kernel_without_numa_has_one_node_and_no_memory_nodes(tmp_path):
    files = {name: text for name, text in machine([[0, 1]]).items() if "/node/" not in name}
    topology = read_topology(write(tmp_path, files))
    assert topology.nodes[0].cpus == {0, 1}
    assert topology.nodes[0].mems == ()


def test_nodes_that_claim_the_same_cpus_become_one_with_all_their_memory(tmp_path):
    files = machine([[0, 1, 2, 3], []])
    files["sys/devices/system/node/node1/cpulist"] = "0-3"
    topology = read_topology(write(tmp_path, files))
    assert list(topology.nodes) == [0]
    assert topology.nodes[0].mems == (0, 1)
    assert topology.nodes[0].memory == 8 << 30


def test_a_cache_that_is_shared_with_nobody_belongs_to_its_core(tmp_path):
    files = machine([[0, 1]], threads=2, caches=[[0, 1]])
    empty = {name: "00000000" for name in files if name.endswith("shared_cpu_list")}
    masks = {name.replace("_list", "_map"): mask for name, mask in empty.items()}
    rest = {name: text for name, text in files.items() if name not in empty}
    topology = read_topology(write(tmp_path, rest | masks))  # ia64's kernel wrote such masks
    assert topology.groups("llc") == (frozenset({0, 2}), frozenset({1, 3}))


def test_a_group_that_contradicts_an_earlier_one_is_passed_over(tmp_path):
    files = machine([[0, 1, 2, 3]], packages=[[0, 1], [2, 3]], caches=[[0, 1], [2, 3]])
    wrong = {
        name: "0-3" for name in files if "/cpu2/" in name and name.endswith(("package_cpus_list", "shared_cpu_list"))
    }
    assert len(wrong) == 2
    topology = read_topology(write(tmp_path, files | wrong))
    for level in ("package", "llc"):
        assert topology.groups(level) == (frozenset({0, 1}), frozenset({2, 3}))


@pytest.mark.parametrize(
    "damage",
    [
        {"cpu4/topology/core_cpus_list": "5"},
        {"cpu4/topology/core_cpus_list": "4"},
        {"cpu0/topology/core_cpus_list": "0"},
        {"cpu1/topology/core_cpus_list": "0-7,9-10"},
        {"cpu4/topology/package_cpus_list": "2-4,6-7"},
        {"cpu4/topology/core_cpus_list": "4", "cpu0/topology/package_cpus_list": "0-1,5"},
        {"../node/node0/cpulist": "0-1,5", "../node/node1/cpulist": "2-4,6-7"},
    ],
)
def test_hardware_threads_of_a_core_stay_together_when_files_contradict_each_other(tmp_path, damage):
    files = machine([[0, 1], [2, 3]], threads=2)
    wrong = {
        str(Path("sys/devices/system", "cpu" if "cpu" in name[:3] else "", name.removeprefix("../"))): text
        for name, text in damage.items()
    }
    assert wrong.keys() <= files.keys()
    host = read_machine(write(tmp_path, files | wrong))
    for mode in (Cpus.spread, Cpus.node, Cpus.package, Cpus.llc, Cpus.core):
        found = host.plan(NumaConfig(cpus=mode, exclusive=True), 2, {})
        assert all({0, 4} <= set(one.cpus) or not {0, 4} & set(one.cpus) for one in found)
        assert not set(found[0].cpus) & set(found[1].cpus)
    assert all(cpu in host.topology.nodes[one.node or 0].cpus for cpu, one in host.topology.cpus.items())


def test_inner_caches_tell_which_cores_are_close(small):
    topology, _ = small([[0, 1, 2, 3]], caches=[[0, 1, 2, 3]], inner_caches=[[0, 2], [1, 3]])
    assert [topology.cpus[cpu].caches for cpu in range(4)] == [(0, 0), (0, 1), (0, 0), (0, 1)]
    assert [topology.cpus[cpu].llc for cpu in range(4)] == [0, 0, 0, 0]


def test_packages_are_told_by_siblings_or_by_number(tmp_path):
    files = machine([[0, 1, 2, 3]], packages=[[0, 1], [2, 3]])
    for cpu in range(4):
        files.pop(f"sys/devices/system/cpu/cpu{cpu}/topology/package_cpus_list")
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"] = str(1 - cpu // 2)
    assert read_topology(write(tmp_path, files)).groups("package") == (frozenset({0, 1}), frozenset({2, 3}))
    (tmp_path / "sys/devices/system/cpu/cpu3/topology/physical_package_id").write_text("-1")
    assert read_topology(tmp_path).cpus[3].package is None


def test_memory_of_a_gpu_is_not_a_node_of_the_machine(tmp_path):
    files = machine([[0, 1], []]) | {"proc/driver/nvidia/gpus/0000:01:00.0/numa_status": "Node: 1\nStatus: online"}
    assert list(read_topology(write(tmp_path, files)).nodes) == [0]


@pytest.mark.parametrize(
    ("extra", "node"),
    [
        ({"numa_node": "1"}, 1),
        ({"numa_node": "-1"}, None),
        ({"numa_node": "7"}, None),
        ({"numa_node": "-1", "local_cpulist": "2-3"}, 1),
        ({"numa_node": "-1", "local_cpulist": "0-3"}, None),
        ({"local_cpus": "0000000c"}, 1),
    ],
)
def test_a_device_is_where_its_files_say_and_never_on_node_0_by_default(tmp_path, extra, node):
    base = "sys/bus/pci/devices/0000:01:00.0"
    files = machine([[0, 1], [2, 3]]) | {f"{base}/class": "0x120000"} | {f"{base}/{k}": v for k, v in extra.items()}
    assert read_topology(write(tmp_path, files)).devices[0].node == node


@pytest.mark.parametrize("seed", range(60))
def test_files_that_are_missing_or_say_nothing_sensible_are_done_without(tmp_path, seed):
    dice = random.Random(seed)
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
    files = machine(groups, threads=2, caches=groups, inner_caches=[[0, 1], [2, 3], [4, 5]], gpus=[0, 1, None])
    damaged = {
        name: dice.choice(["", "\n", "\0", "-1", "?", "99999999999"]) if dice.random() < 0.1 else text
        for name, text in files.items()
        if dice.random() < 0.9
    }
    host = read_machine(write(tmp_path, damaged))
    for (binding,) in (host.plan(NumaConfig(cpus=mode, on_error=OnError.warn), 1, {}) for mode in Cpus):
        assert set(binding.cpus) <= host.allowance.cpus
    assert host.topology.groups("node")


def test_without_sysfs_the_error_says_so(tmp_path):
    with pytest.raises(TopologyError, match="not Linux, or a container without /sys"):
        read_topology(tmp_path)


def test_this_machine_can_be_read():
    topology, allowance = read_topology(), read_allowance()
    assert allowance.cpus <= topology.cpus.keys()


class TestAllowance:
    def test_a_cgroup_of_version_2_restricts_and_its_quota_is_seen(self, tmp_path):
        files = {name: text for name, text in machine([[0, 1], [2, 3]]).items() if "status" not in name}
        group = "sys/fs/cgroup/job/worker"
        files |= {
            "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0",
            "proc/self/cgroup": "0::/job/worker",
            "sys/fs/cgroup/job/cpuset.cpus.effective": "2-3",
            "sys/fs/cgroup/job/cpuset.mems.effective": "1",
            "sys/fs/cgroup/job/cpu.max": "150000 100000",
            f"{group}/cpu.max": "max 100000",
        }
        allowance = read_allowance(write(tmp_path, files))
        assert (set(allowance.cpus), set(allowance.mems), allowance.quota) == ({2, 3}, {1}, 1.5)

    def test_a_cgroup_of_version_1_restricts(self, tmp_path):
        files = {name: text for name, text in machine([[0, 1], [2, 3]]).items() if "status" not in name}
        files |= {
            "proc/mounts": "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0",
            "proc/self/cgroup": "3:cpuset:/job",
            "sys/fs/cgroup/cpuset/job/cpuset.cpus": "0-1",
            "sys/fs/cgroup/cpuset/job/cpuset.mems": "0",
        }
        allowance = read_allowance(write(tmp_path, files))
        assert (set(allowance.cpus), set(allowance.mems)) == ({0, 1}, {0})

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("proc/self/cgroup", "what\n\n::\n0::/job"),
            ("proc/self/status", "Cpus_allowed_list:\t0-x\nMems_allowed_list:\t?"),
            ("proc/self/status", "Cpus_allowed_list:\t3-1\nMems_allowed_list:\t99999999999"),
            ("sys/fs/cgroup/job/cpu.max", "soon 100000"),
            ("sys/fs/cgroup/job/cpu.max", "150000 1e5"),
            ("sys/fs/cgroup/job/cpu.max", "150000"),
            ("sys/fs/cgroup/job/cpu.max", "150000 0"),
        ],
    )
    def test_what_makes_no_sense_is_passed_over_with_a_warning(self, tmp_path, caplog, name, text):
        files = machine([[0, 1], [2, 3]]) | {
            "proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\nwhat",
            "proc/self/cgroup": "0::/job",
            "sys/fs/cgroup/job/cpuset.cpus.effective": "2-3",
            "sys/fs/cgroup/cpu.max": "300000 100000",
        }
        allowance = read_allowance(write(tmp_path, files | {name: text}))
        assert allowance.cpus == ({2, 3} if "status" in name else {0, 1, 2, 3})
        assert (set(allowance.mems), allowance.quota) == ({0, 1}, 3.0)
        assert "passed over" in caplog.text

    def test_of_this_process_it_is_its_affinity(self):
        assert read_allowance(Path("/")).cpus == os.sched_getaffinity(0)
