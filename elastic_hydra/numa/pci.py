"""Accelerators on the PCI bus, and the NUMA node of each.

Read from /sys/bus/pci/devices (the kernel's Documentation/ABI/testing/sysfs-bus-pci).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elastic_hydra.numa.nodes import Node
from elastic_hydra.numa.sysfs import folders, read_number, read_set

NVIDIA, AMD = 0x10DE, 0x1002
"""Numbers of PCI vendors."""
_PCI = "sys/bus/pci/devices"
_NVIDIA_DRIVER = "proc/driver/nvidia/gpus"
# PCI base classes: 0x03 display controllers (all GPUs), 0x12 processing accelerators, 0x0b40 co-processors
_ACCELERATOR_CLASSES = (0x03, 0x12)
_COPROCESSOR = 0x0B40


@dataclass(frozen=True)
class Device:
    """One accelerator."""

    address: str
    """PCI address, as in sysfs: `0000:07:00.0`."""
    pci_class: int
    """Class, subclass and interface: `0x030200` is a 3D controller."""
    vendor: int
    """PCI vendor, 0 where unknown."""
    model: int
    """PCI device id, 0 where unknown."""
    node: int | None
    """NUMA node; None where the kernel does not say it, or says one that does not exist."""
    note: str = ""
    """What is uncertain about the device's place or number; empty when nothing is."""


def read_devices(top: Path, nodes: Mapping[int, Node]) -> Iterator[Device]:
    """Display controllers, accelerators and co-processors, by PCI address.

    Args:
        top: Folder with the machine's `sys` and `proc`.
        nodes: The NUMA nodes, by number.
    """
    for folder in folders(top / _PCI):
        pci_class = read_number(folder / "class", 16) or 0
        if pci_class >> 16 not in _ACCELERATOR_CLASSES and pci_class >> 8 != _COPROCESSOR:
            continue
        vendor = read_number(folder / "vendor", 16) or 0
        if not vendor and (top / _NVIDIA_DRIVER / folder.name).is_dir():
            vendor = NVIDIA
        model = read_number(folder / "device", 16) or 0
        yield Device(folder.name, pci_class, vendor, model, _node(folder, nodes))


def _node(folder: Path, nodes: Mapping[int, Node]) -> int | None:
    """The node of a device: `numa_node`, else the only node of the machine, else the only one with its local CPUs.

    `numa_node` is -1 where firmware says nothing, is missing on POWER9, and may name a node that is offline.
    """
    number = read_number(folder / "numa_node")
    if number in nodes:
        return number
    if len(nodes) == 1:
        return next(iter(nodes))
    local = read_set(folder, "local_cpu") or frozenset()
    holders = [node.id for node in nodes.values() if node.cpus & local]
    return holders[0] if len(holders) == 1 else None
