"""Our profiles against torch's own modes, where torch can answer."""

from __future__ import annotations

import builtins
import os
from types import SimpleNamespace

import pytest

from elastic_hydra.config.numa import Cpus, NumaConfig
from elastic_hydra.numa.allowance import read_allowance
from elastic_hydra.numa.devices import visible_accelerators
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.topology import read_topology
from tests.numa.machines import REAL, machine, write, write_real

pytestmark = pytest.mark.slow

MODES = {
    "node": NumaConfig(cpus=Cpus.node),
    "socket": NumaConfig(cpus=Cpus.package),
    "exclusive": NumaConfig(cpus=Cpus.node, exclusive=True),
    "core-complex": NumaConfig(cpus=Cpus.llc),
}
UNEVEN = machine(
    [list(range(11)), list(range(11, 22))],
    threads=2,
    caches=[list(range(first, min(first + 4, first // 11 * 11 + 11))) for first in (0, 4, 8, 11, 15, 19)],
    gpus=[0, 1, 0, 0, 1],
)


@pytest.mark.parametrize(
    "name", ["uneven", *(n for n in REAL if n in ("derived-dgx-a100-nps4", "32intel64-2p8co2t+8ve"))]
)
@pytest.mark.parametrize("mode", MODES)
def test_torchs_modes_give_torchs_cpus(tmp_path, monkeypatch, name, mode):
    binding = pytest.importorskip("torch.numa.binding")
    root = write(tmp_path, UNEVEN) if name == "uneven" else write_real(tmp_path, name)
    topology, allowance = read_topology(root), read_allowance(root)
    gpus = visible_accelerators(topology, {}, root)
    mine = [set(one.cpus) for one in plan(topology, allowance, MODES[mode], len(gpus), gpus)]

    for cpu in topology.cpus:  # torch reads the old name of this file only
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        if (folder / "core_cpus_list").exists():
            (folder / "thread_siblings_list").write_text((folder / "core_cpus_list").read_text())
        (folder / "physical_package_id").write_text(str(topology.cpus[cpu].package))

    def place(index):
        domain, bus, device = gpus[index].address.partition(".")[0].split(":")
        return SimpleNamespace(pci_domain_id=int(domain, 16), pci_bus_id=int(bus, 16), pci_device_id=int(device, 16))

    def below(path):
        return f"{root}{path}" if str(path).startswith("/sys/") else path

    opened, listed = builtins.open, os.listdir
    monkeypatch.setattr(binding, "open", lambda path: opened(below(path)), raising=False)
    monkeypatch.setattr(os, "listdir", lambda path=".": listed(below(path)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowance.cpus))
    monkeypatch.setattr("torch.cuda.get_device_properties", place)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(gpus))
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    theirs = [binding._get_logical_cpus_to_bind_to(gpu_index=index, numa_options=options) for index in range(len(gpus))]
    assert mine == theirs
