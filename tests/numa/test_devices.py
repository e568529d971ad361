"""Which accelerators a worker would see, by the rules of CUDA and ROCm, without either."""

from __future__ import annotations

import pytest

from elastic_hydra.numa import nvml
from elastic_hydra.numa.devices import read_accelerators, used_memory, visible_accelerators
from elastic_hydra.numa.errors import NumaError
from elastic_hydra.numa.topology import read_topology
from tests.numa.machines import AMD, machine, write

UUIDS = ["GPU-aa11", "GPU-ab22", "GPU-cc33"]
ADDRESSES = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]
MIG = {1: ["MIG-5678", "MIG-9999"], 0: ["MIG-1234"]}


class Nvml:
    """NVIDIA's library with some of three GPUs, by the rules of nvml.h: 0 is success, answers go to where a pointer
    points."""

    def __init__(self, gpus=(0, 1, 2), refuses=""):
        self.gpus, self.refuses, self.open = gpus, refuses, 0

    def __getattr__(self, name):
        assert name.startswith("nvml")
        if name == self.refuses:
            return lambda *_: 999
        return {
            "nvmlInit_v2": lambda: self.count(1),
            "nvmlShutdown": lambda: self.count(-1),
            "nvmlDeviceGetCount_v2": lambda out: self.put(out, len(self.gpus)),
            "nvmlDeviceGetHandleByIndex_v2": lambda index, out: self.put(out, 100 + self.gpus[index.value]),
            "nvmlDeviceGetPciInfo_v3": self.place,
            "nvmlDeviceGetUUID": self.uuid,
            "nvmlDeviceGetName": self.name,
            "nvmlDeviceGetHandleByPciBusId_v2": self.at,
            "nvmlDeviceGetMemoryInfo": self.memory,
            "nvmlDeviceGetMaxMigDeviceCount": lambda _, out: self.put(out, 7),
            "nvmlDeviceGetMigDeviceHandleByIndex": self.instance,
        }[name]

    def count(self, change):
        self.open += change
        return 0

    def put(self, out, value):
        out._obj.value = value
        return 0

    def place(self, handle, out):
        out._obj.bus_id = f"0000{ADDRESSES[handle.value - 100]}".upper().encode()
        return 0

    def at(self, address, out):
        gpu = ADDRESSES.index(address.decode())
        return self.put(out, 100 + gpu) if gpu in self.gpus else 6

    def memory(self, handle, out):
        out._obj.used = (handle.value - 95) << 30
        return 0

    def name(self, handle, out, _):
        out.value = f"NVIDIA H{handle.value}".encode()
        return 0

    def uuid(self, handle, out, _):
        gpu, instance = handle.value % 100, handle.value // 100
        out.value = (UUIDS[gpu] if instance == 1 else MIG[gpu][instance - 2]).encode()
        return 0

    def instance(self, handle, index, out):
        gpu = handle.value - 100
        return self.put(out, (index.value + 2) * 100 + gpu) if index.value < len(MIG.get(gpu, [])) else 6


@pytest.fixture
def host(tmp_path):
    return read_topology(write(tmp_path, machine([[0, 1], [2, 3]], gpus=[0, 1, 1])))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("1,7,0", [1]),
        ("0,0", []),
        ("GPU-cc33,GPU-aa", [2, 0]),
        ("GPU-a", []),
        ("MIG-5678", [1]),
        ("MIG-5678,MIG-9999,MIG-1", [1, 1, 0]),
        ("MIG-5678,MIG-5678", []),
        ("MIG-0000", []),
        ("MIG-GPU-cc33/1/0", [2]),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices(host, value, expected):
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    library = Nvml()
    found = read_accelerators(host, "/nowhere", library).visible(environ)
    assert library.open == 0
    assert [device.address for device in found] == [ADDRESSES[index] for index in expected]


@pytest.mark.parametrize("refuses", ["", "nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"])
def test_where_nvml_does_not_answer_the_drivers_files_tell(tmp_path, refuses):
    files = machine([[0, 1]], gpus=[0, 0])
    for address, uuid in zip(ADDRESSES, UUIDS, strict=False):
        files[f"proc/driver/nvidia/gpus/{address}/information"] = f"Model: \t\t H100\nGPU UUID: \t {uuid}\n"
    topology = read_topology(write(tmp_path, files))
    library = Nvml(refuses=refuses) if refuses else None
    found = read_accelerators(topology, tmp_path, library).visible({"CUDA_VISIBLE_DEVICES": "GPU-ab"})
    assert [device.address for device in found] == [ADDRESSES[1]]


def test_a_container_that_may_open_two_of_three_gpus_has_two(host):
    found = read_accelerators(host, "/nowhere", Nvml(gpus=(1, 2))).visible({"CUDA_VISIBLE_DEVICES": "1"})
    assert [device.address for device in found] == [ADDRESSES[2]]


@pytest.mark.parametrize(
    ("refuses", "names"),
    [
        ("", ["NVIDIA H101", "NVIDIA H102"]),
        ("nvmlInit_v2", []),
        ("nvmlDeviceGetCount_v2", []),
        ("nvmlDeviceGetHandleByIndex_v2", []),
        ("nvmlDeviceGetName", []),
    ],
)
def test_models_of_gpus(refuses, names):
    library = Nvml(gpus=(1, 2), refuses=refuses)
    assert nvml.names(library) == names
    assert library.open == 0


def test_a_gpu_that_sysfs_does_not_show_has_an_unknown_place(tmp_path):
    topology = read_topology(write(tmp_path, machine([[0, 1], [2, 3]], gpus=[0])))
    found = read_accelerators(topology, tmp_path, Nvml()).visible({})
    assert [device.node for device in found] == [0, None, None]


def test_different_gpus_in_cudas_own_order_are_noted(tmp_path):
    files = machine([[0, 1]], gpus=[0, 0]) | {"sys/bus/pci/devices/0000:02:00.0/device": "0x20b0"}
    topology = read_topology(write(tmp_path, files))
    assert "CUDA may number them otherwise" in visible_accelerators(topology, {}, tmp_path)[0].note
    assert not visible_accelerators(topology, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, tmp_path)[0].note


def test_amds_gpus_follow_the_kernels_compute_driver_and_its_variables(tmp_path):
    files = machine([[0, 1]], gpus=[0, 0], vendor=AMD)
    nodes = "sys/class/kfd/kfd/topology/nodes"
    files |= {
        f"{nodes}/0/properties": "simd_count 0\nlocation_id 0\ndomain 0",
        f"{nodes}/1/properties": "simd_count 304\nlocation_id 512\ndomain 0",
        f"{nodes}/2/properties": "simd_count 304\nlocation_id 256\ndomain 0\nunique_id 10995116277760",
    }
    topology = read_topology(write(tmp_path, files))
    assert [one.address for one in visible_accelerators(topology, {}, tmp_path)] == [ADDRESSES[1], ADDRESSES[0]]
    one = visible_accelerators(topology, {"HIP_VISIBLE_DEVICES": "1"}, tmp_path)
    assert [device.address for device in one] == [ADDRESSES[0]]
    both = {"ROCR_VISIBLE_DEVICES": "GPU-00000A0000000000,0", "CUDA_VISIBLE_DEVICES": "1,0"}
    assert [device.address for device in visible_accelerators(topology, both, tmp_path)] == [ADDRESSES[1], ADDRESSES[0]]
    for nothing in ("", "-1", "GPU-0", "7"):
        assert visible_accelerators(topology, {"ROCR_VISIBLE_DEVICES": nothing}, tmp_path) == ()


def test_a_servers_display_adapter_is_no_accelerator_and_a_coprocessor_is(tmp_path):
    files = machine([[0, 1]])
    for number, pci_class in enumerate(("0x030000", "0x0b4000", "0x120000", "0x020000")):
        files[f"sys/bus/pci/devices/0000:0{number}:00.0/class"] = pci_class
    topology = read_topology(write(tmp_path, files))
    assert [one.pci_class for one in visible_accelerators(topology, {}, tmp_path)] == [0x0B4000, 0x120000]


def test_addresses_given_by_the_user_are_taken(host):
    found = visible_accelerators(host, {}, addresses=["0:03:00.0", ADDRESSES[0]])
    assert [device.address for device in found] == [ADDRESSES[2], ADDRESSES[0]]
    with pytest.raises(
        NumaError, match=r"devices=\[0000:99:00.0\]: no such accelerator; this machine has 0000:01:00.0"
    ):
        visible_accelerators(host, {}, addresses=["0000:99:00.0"])


class TestUsedMemory:
    """Bytes in use on a GPU, from NVIDIA's library and from amdgpu's file."""

    def test_of_nvidia(self, host):
        library = Nvml(gpus=(0, 2))
        assert used_memory(host.devices, library=library) == {ADDRESSES[0]: 5 << 30, ADDRESSES[2]: 7 << 30}
        assert library.open == 0

    def test_of_amd(self, tmp_path):
        topology = read_topology(write(tmp_path, machine([[0, 1], [2, 3]], gpus=[0, 1], vendor=AMD)))
        _, second = topology.devices
        file = tmp_path / "sys/bus/pci/devices" / second.address / "mem_info_vram_used"
        file.write_text("12345678\n")
        assert used_memory(topology.devices, tmp_path) == {second.address: 12345678}

    def test_without_a_driver_nothing_is_known(self, host):
        assert used_memory(host.devices) == {}
        assert used_memory(host.devices, library=Nvml(refuses="nvmlInit_v2")) == {}
