"""This host, and hosts that do not tell what they have."""

from __future__ import annotations

import os

import pytest

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError
from elastic_hydra.numa.carve import cut
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.machine import read_machine
from tests.numa.machines import machine, write


def test_a_host_is_read_once_and_planned_whole_or_by_slots(tmp_path):
    settings = NumaConfig(cpus=Cpus.node)
    host = read_machine(write(tmp_path, machine([[0, 1], [2, 3]], gpus=[1, 0])))
    assert [format_list(one.cpus) for one in host.plan(settings, 2, {})] == ["2-3", "0-1"]
    devices = host.devices(settings, {})
    slots = cut(host.topology, host.allowance, 2, [devices[:1], devices[1:]])
    found = [host.plan(settings, 1, {"CUDA_VISIBLE_DEVICES": str(gpu)}, slot) for gpu, slot in enumerate(slots)]
    assert [format_list(job[0].cpus) for job in found] == ["2-3", "0-1"]


def test_workers_with_several_gpus_are_placed_at_their_own(tmp_path):
    settings = NumaConfig(cpus=Cpus.node)
    host = read_machine(write(tmp_path, machine([[0, 1], [2, 3]], gpus=[0, 0, 1, 1])))
    assert [one.cpus for one in host.plan(settings, 2, {}, gpus_per_worker=2)] == [(0, 1), (2, 3)]
    assert [one.cpus for one in host.plan(settings, 2, {})] == [(0, 1), (0, 1)]
    settings.devices = ["0000:03:00.0", "0000:04:00.0"]
    assert [one.cpus for one in host.plan(settings, 2, {}, gpus_per_worker=2)] == [(2, 3), (2, 3)]


def test_a_slot_shrinks_with_what_the_process_may_use(tmp_path):
    files = machine([[0, 1], [2, 3]])
    before = read_machine(write(tmp_path / "before", files))
    slot = cut(before.topology, before.allowance, 2)[1]
    after = read_machine(write(tmp_path / "after", machine([[0, 1], [2, 3]], cpus="0-2")))
    assert after.plan(NumaConfig(cpus=Cpus.spread), 1, {}, slot)[0].cpus == (2,)


def test_where_there_is_no_sysfs_nothing_is_bound_and_threads_are_shared(tmp_path):
    found = read_machine(tmp_path).plan(NumaConfig(), 2, {})
    assert [(one.cpus, one.memory, one.problem) for one in found] == [((), "none", "")] * 2
    assert found[0].threads


@pytest.mark.parametrize("keys", [{"cpus": Cpus.node}, {"memory": Memory.bind}])
def test_where_there_is_no_sysfs_a_binding_is_refused_or_left_out_with_a_warning(tmp_path, keys):
    host = read_machine(tmp_path)
    with pytest.raises(NumaError, match=r"hydra.launcher.numa.\w+=\w+: .* here only cpus=none with memory=none works"):
        host.plan(NumaConfig(**keys), 2, {})
    found = host.plan(NumaConfig(**keys, on_error=OnError.warn), 2, {})
    assert [one.cpus for one in found] == [(), ()]
    assert "a container without /sys" in found[0].problem


def test_a_system_that_cannot_even_tell_a_process_its_cpus_counts_them(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 4)
    host = read_machine(tmp_path)
    assert [one.threads for one in host.plan(NumaConfig(), 2, {})] == [2, 2]


def test_an_unknown_device_is_refused_or_left_out_with_a_warning(tmp_path):
    host = read_machine(write(tmp_path, machine([[0, 1]])))
    settings = NumaConfig(cpus=Cpus.node, devices=["0000:99:00.0"])
    with pytest.raises(NumaError, match=r"hydra.launcher.numa.devices=\[0000:99:00.0\]: no such accelerator"):
        host.plan(settings, 1, {})
    settings.on_error = OnError.warn
    assert "no such accelerator" in host.plan(settings, 1, {})[0].problem


def test_this_host_can_be_planned():
    assert read_machine().plan(NumaConfig(cpus=Cpus.spread), 1, {})[0].cpus
