"""Which accelerators a worker would see, by the rules of CUDA and ROCm, without either."""

from __future__ import annotations

import pytest

from elastic_hydra.numa import NumaError, read_topology, visible_accelerators
from tests.numa.machines import AMD, machine, write

UUIDS = ["GPU-aa11", "GPU-ab22", "GPU-cc33"]
ADDRESSES = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"]
MIG = (
    "GPU 0: NVIDIA A100 (UUID: GPU-aa11)\n"
    "  MIG 1g.5gb Device 0: (UUID: MIG-1234)\n"
    "GPU 1: NVIDIA A100 (UUID: GPU-ab22)\n"
    "  MIG 1g.5gb Device 0: (UUID: MIG-5678)\n"
)


def smi(command, addresses=ADDRESSES):
    """What nvidia-smi prints."""
    if "-L" in command:
        return MIG
    known = dict(zip(ADDRESSES, UUIDS, strict=True))
    return "".join(f"{index}, {known[address]}, 0000{address}\n" for index, address in enumerate(addresses))


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
        ("MIG-GPU-cc33/1/0", [2]),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices(host, value, expected):
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    found = visible_accelerators(host, environ, run=smi)
    assert [device.address for device in found] == [ADDRESSES[index] for index in expected]


def test_where_nvidia_smi_is_missing_the_drivers_files_tell(tmp_path):
    files = machine([[0, 1]], gpus=[0, 0])
    for address, uuid in zip(ADDRESSES, UUIDS, strict=False):
        files[f"proc/driver/nvidia/gpus/{address}/information"] = f"Model: \t\t H100\nGPU UUID: \t {uuid}\n"
    topology = read_topology(write(tmp_path, files))
    found = visible_accelerators(topology, {"CUDA_VISIBLE_DEVICES": "GPU-ab"}, tmp_path)
    assert [device.address for device in found] == [ADDRESSES[1]]


def test_a_container_that_may_open_two_of_three_gpus_has_two(host):
    found = visible_accelerators(host, {"CUDA_VISIBLE_DEVICES": "1"}, run=lambda command: smi(command, ADDRESSES[1:]))
    assert [device.address for device in found] == [ADDRESSES[2]]


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
        f"{nodes}/2/properties": "simd_count 304\nlocation_id 256\ndomain 0",
    }
    topology = read_topology(write(tmp_path, files))
    assert [one.address for one in visible_accelerators(topology, {}, tmp_path)] == [ADDRESSES[1], ADDRESSES[0]]
    one = visible_accelerators(topology, {"HIP_VISIBLE_DEVICES": "1"}, tmp_path)
    assert [device.address for device in one] == [ADDRESSES[0]]


def test_a_servers_display_adapter_is_no_accelerator_and_a_coprocessor_is(tmp_path):
    files = machine([[0, 1]])
    for number, pci_class in enumerate(("0x030000", "0x0b4000", "0x120000", "0x020000")):
        files[f"sys/bus/pci/devices/0000:0{number}:00.0/class"] = pci_class
    topology = read_topology(write(tmp_path, files))
    assert [one.pci_class for one in visible_accelerators(topology, {}, tmp_path)] == [0x0B4000, 0x120000]


def test_addresses_given_by_the_user_are_taken(host):
    found = visible_accelerators(host, {}, addresses=[ADDRESSES[2], ADDRESSES[0]])
    assert [device.address for device in found] == [ADDRESSES[2], ADDRESSES[0]]
    with pytest.raises(
        NumaError, match=r"devices=\[0000:99:00.0\]: no such accelerator; this machine has 0000:01:00.0"
    ):
        visible_accelerators(host, {}, addresses=["0000:99:00.0"])
