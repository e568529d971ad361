"""This host, and hosts that do not tell what they have."""

from __future__ import annotations

import pytest

from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError
from elastic_hydra.numa import NumaError, cut, read_machine
from elastic_hydra.numa.bind import format_list
from tests.numa.machines import machine, write


def test_a_host_is_read_once_and_planned_whole_or_by_slots(tmp_path):
    settings = NumaConfig(cpus=Cpus.node)
    host = read_machine(settings, {}, write(tmp_path, machine([[0, 1], [2, 3]], gpus=[1, 0])))
    assert [format_list(one.cpus) for one in host.plan(settings, 2)] == ["2-3", "0-1"]
    slots = cut(host.topology, host.allowance, 2, [host.devices[:1], host.devices[1:]])
    found = [host.plan(settings, 1, slot, host.devices[index : index + 1]) for index, slot in enumerate(slots)]
    assert [format_list(job[0].cpus) for job in found] == ["2-3", "0-1"]


def test_where_there_is_no_sysfs_nothing_is_bound_and_threads_are_shared(tmp_path):
    settings = NumaConfig()
    found = read_machine(settings, {}, tmp_path).plan(settings, 2)
    assert [(one.cpus, one.memory, one.problem) for one in found] == [((), "none", "")] * 2
    assert found[0].threads


@pytest.mark.parametrize("keys", [{"cpus": Cpus.node}, {"memory": Memory.bind}])
def test_where_there_is_no_sysfs_a_binding_is_refused_or_left_out_with_a_warning(tmp_path, keys):
    with pytest.raises(NumaError, match=r"hydra.launcher.numa.\w+=\w+: .* here only cpus=none with memory=none works"):
        read_machine(NumaConfig(**keys), {}, tmp_path)
    settings = NumaConfig(**keys, on_error=OnError.warn)
    found = read_machine(settings, {}, tmp_path).plan(settings, 2)
    assert [one.cpus for one in found] == [(), ()]
    assert "a container without /sys" in found[0].problem


def test_an_unknown_device_is_refused_or_left_out_with_a_warning(tmp_path):
    root = write(tmp_path, machine([[0, 1]]))
    settings = NumaConfig(cpus=Cpus.node, devices=["0000:99:00.0"])
    with pytest.raises(NumaError, match=r"hydra.launcher.numa.devices=\[0000:99:00.0\]: no such accelerator"):
        read_machine(settings, {}, root)
    settings.on_error = OnError.warn
    assert "no such accelerator" in read_machine(settings, {}, root).plan(settings, 1)[0].problem


def test_this_host_can_be_planned():
    settings = NumaConfig(cpus=Cpus.spread)
    assert read_machine(settings, {}).plan(settings, 1)[0].cpus
