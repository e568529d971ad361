"""The profiles in conf/: each fits NumaConfig, and torch's modes give torch's CPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import NumaConfig
from elastic_hydra.numa.carve import cut, instances
from elastic_hydra.numa.devices import visible_accelerators
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.report import render

CONF = Path(__file__).resolve().parents[2] / "conf/hydra/launcher/numa"
PROFILES = sorted(path.stem for path in CONF.glob("*.yaml"))


def profile(name: str) -> NumaConfig:
    """The settings of a profile, merged into the schema as Hydra does it."""
    loaded = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(loaded, DictConfig)
    assert loaded.pop("defaults") == ["_self_"]
    merged: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(NumaConfig), loaded))
    assert isinstance(merged, NumaConfig)
    return merged


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_fits_the_schema_and_plans(name, small):
    topology, allowance = small([list(range(8)), list(range(8, 16))], threads=2, gpus=[1, 0])
    found = plan(topology, allowance, profile(name), 2, topology.devices)
    assert len(found) == 2
    assert (found[0].cpus == ()) == (name == "none")


def test_there_is_a_profile_for_each_of_torchs_modes():
    assert {"node", "socket", "exclusive", "core-complex"} <= set(PROFILES)


# What torch.numa.binding of torch 2.13 answers on the DGX A100 (NPS4), first four GPUs; see test_torch.py.
TORCH = {
    "node": ["48-63,176-191", "48-63,176-191", "16-31,144-159", "16-31,144-159"],
    "socket": ["0-63,128-191"] * 4,
    "exclusive": ["48-55,176-183", "56-63,184-191", "16-23,144-151", "24-31,152-159"],
    "core-complex": ["48-51,176-179", "52-55,180-183", "16-19,144-147", "20-23,148-151"],
}


@pytest.mark.topologies
@pytest.mark.parametrize("mode", TORCH)
def test_torchs_modes_give_torchs_cpus(real, mode):
    topology, allowance = real("derived-dgx-a100-nps4")
    gpus = visible_accelerators(topology, {}, "/nowhere")
    found = plan(topology, allowance, profile(mode), 8, gpus)
    assert [format_list(one.cpus) for one in found][:4] == TORCH[mode]


@pytest.mark.topologies
def test_the_plans_in_the_docs_are_real(real):
    text = (CONF.parents[3] / "docs" / "guides" / "numa.md").read_text()
    topology, allowance = real("derived-dgx-a100-nps4")
    gpus = visible_accelerators(topology, {}, "/nowhere")
    assert f"\n{render(plan(topology, allowance, profile('exclusive'), 8, gpus))}\n" in text
    topology, allowance = real("128arm-2pa2n8cluster4co")
    for job, slot in enumerate(cut(topology, allowance, 4)):
        table = render(plan(topology, slot, profile("spread"), 2))
        assert f"\n#{job} CPUs: {format_list(slot.cpus)}\n{table}\n" in text
    assert [len(instances(topology, allowance, cores)) for cores in (4, None)] == [32, 4]
    topology, allowance = real("derived-dgx-a100-nps4")
    spread = plan(topology, allowance, profile("spread"), 8, gpus)
    assert (topology.nodes_of(spread[0].cpus), topology.nodes_of(spread[1].cpus)) == ((3,), (0,))


class TestCpuInstances:
    """The four planning errors of torch.backends.xeon.run_cpu."""

    def test_neighbouring_hardware_threads_are_not_taken_for_cores(self, tmp_path, small):
        topology, allowance = small([[0, 1], [2, 3]], threads=2)
        found = plan(topology, allowance, profile("cpu-throughput"), 2)
        assert [format_list(one.cpus) for one in found] == ["0-1", "2-3"]

    def test_sixteen_nodes_are_sixteen(self, small):
        topology, allowance = small([[core] for core in range(16)])
        assert len(instances(topology, allowance)) == 16

    def test_the_cpuset_is_respected(self, small):
        topology, allowance = small([[0, 1, 2, 3], [4, 5, 6, 7]], cpus="2-3,6-7")
        found = plan(topology, allowance, profile("cpu-throughput"), 2)
        assert [format_list(one.cpus) for one in found] == ["2-3", "6-7"]

    def test_interleaved_numbers_do_not_make_instances_span_nodes(self, small):
        topology, allowance = small([[0, 2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15]])
        found = plan(topology, allowance, profile("cpu-latency"), 4)
        assert [format_list(one.cpus) for one in found] == ["0,2,4,6", "8,10,12,14", "1,3,5,7", "9,11,13,15"]

    def test_each_job_of_a_sweep_is_an_instance(self, small):
        topology, allowance = small([list(range(8)), list(range(8, 16))])
        slots = instances(topology, allowance, cores=4)
        found = [plan(topology, slot, profile("cpu-latency"), 1)[0] for slot in slots]
        assert [format_list(one.cpus) for one in found] == ["0-3", "4-7", "8-11", "12-15"]
        assert len(cut(topology, allowance, 4)) == len(slots)
