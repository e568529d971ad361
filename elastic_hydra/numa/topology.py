"""What the machine has: CPUs, cores, caches, packages, NUMA nodes and accelerators, read from Linux' sysfs.

The files are described in the kernel's Documentation/ABI (sysfs-devices-system-cpu, sysfs-devices-node, sysfs-bus-pci).
Real machines leave out, rename or contradict many of them; each function says which of that it handles. No file but the
list of CPUs is required.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from elastic_hydra.numa.bind import parse_list
from elastic_hydra.numa.errors import TopologyError
from elastic_hydra.numa.sysfs import folders, numbered, read_hex, read_set, read_text

Level = Literal["package", "node", "llc", "core"]

_CPU = "sys/devices/system/cpu"
_NODE = "sys/devices/system/node"
_PCI = "sys/bus/pci/devices"
_NVIDIA = "proc/driver/nvidia/gpus"
_NVIDIA_VENDOR = 0x10DE
# PCI base classes: 0x03 display controllers (all GPUs), 0x12 processing accelerators, 0x0b40 co-processors
_ACCELERATOR_CLASSES = (0x03, 0x12)
_COPROCESSOR = 0x0B40
_NEAR, _FAR = 10, 20  # ACPI's SLIT: 10 is local; 20 is what firmware says that knows nothing


@dataclass(frozen=True)
class Cpu:
    """One hardware thread."""

    id: int
    """The kernel's number."""
    core: int
    """Smallest CPU of the physical core."""
    package: int | None
    """Smallest CPU of the package (socket); None where the kernel does not say."""
    node: int | None
    """NUMA node; None for a CPU whose node is offline."""
    llc: int | None
    """Smallest CPU that shares the last-level cache; None without cache information."""
    llc_level: int | None = None
    """Level of that cache: 3 on most servers, 2 on some Arm machines."""


@dataclass(frozen=True)
class Node:
    """One NUMA node."""

    id: int
    cpus: frozenset[int]
    """Online CPUs; empty for a memory-only node."""
    memory: int | None
    """Bytes; 0 for a node without memory, None where the kernel does not say."""
    distances: Mapping[int, int] = field(default_factory=dict)
    """Distance to each node, 10 is local."""
    mems: tuple[int, ...] = ()
    """The kernel's memory nodes that belong to it: itself, and more where firmware gives several nodes the same CPUs;
    none where the kernel has no NUMA support."""
    initiators: tuple[int, ...] = ()
    """Nodes from which its memory is fastest, where the firmware tells (HMAT): for memory-only nodes."""


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
    """NUMA node; None where the kernel does not say or names none that exists."""
    note: str = ""
    """What is uncertain about the device's place or number; empty when nothing is."""


@dataclass(frozen=True)
class Topology:
    """One machine; only what is online."""

    cpus: Mapping[int, Cpu]
    nodes: Mapping[int, Node]
    devices: tuple[Device, ...]
    """Display controllers, accelerators and co-processors by PCI address."""

    def distance(self, first: int, second: int) -> int:
        """The distance between two nodes: 10 for the same, more for farther ones, 20 where the kernel does not say."""
        default = _NEAR if first == second else _FAR
        return self.nodes[first].distances.get(second, default) if first in self.nodes else default

    def nearest(self, node: int, candidates: Iterable[int]) -> tuple[int, ...]:
        """The candidates closest to a node, sorted: the node itself, else its initiators, else by distance."""
        distances = {other: self.distance(node, other) for other in sorted(set(candidates))}
        told = self.nodes[node].initiators if node in self.nodes else ()
        for closest in ((node,), told):
            if distances.keys() & set(closest):
                return tuple(sorted(distances.keys() & set(closest)))
        return tuple(other for other, distance in distances.items() if distance == min(distances.values()))

    def local_cpus(self, node: int) -> frozenset[int]:
        """The CPUs of a node; for a memory-only node, those of the nearest nodes that have some."""
        with_cpus = [other.id for other in self.nodes.values() if other.cpus]
        return frozenset().union(*(self.nodes[other].cpus for other in self.nearest(node, with_cpus)))

    def groups(self, level: Level, cpus: Iterable[int] | None = None) -> tuple[frozenset[int], ...]:
        """The CPUs that share a package, node, last-level cache or core, in the order of their smallest CPU.

        Args:
            level: What the CPUs of a group share.
            cpus: Only these CPUs; all by default. CPUs of which the level is unknown form one group.
        """
        found: dict[int | None, set[int]] = {}
        for cpu in sorted(self.cpus if cpus is None else cpus):
            found.setdefault(getattr(self.cpus[cpu], level), set()).add(cpu)
        return tuple(frozenset(group) for group in found.values())

    def cores(self, cpus: Iterable[int]) -> int:
        """How many physical cores the CPUs lie on."""
        return len({self.cpus[cpu].core for cpu in cpus})

    def nodes_of(self, cpus: Iterable[int]) -> tuple[int, ...]:
        """The NUMA nodes of the CPUs, sorted."""
        return tuple(sorted({node for cpu in cpus if (node := self.cpus[cpu].node) is not None}))


def read_topology(root: str | Path = "/") -> Topology:
    """Read the machine's topology.

    Args:
        root: Folder with the machine's `sys` and `proc`; tests and dumps of other machines have one of their own.

    Returns:
        The online part of the machine.

    Raises:
        TopologyError: There is no list of CPUs below `root`.
    """
    top = Path(root)
    online = online_cpus(top)
    nodes = _read_nodes(top, online)
    node_of = {cpu: node.id for node in nodes.values() for cpu in node.cpus}
    cores = _shared(top, online, ("core_cpus", "thread_siblings"))
    packages = _shared(top, online, ("package_cpus", "core_siblings"))
    caches = _last_level_caches(top, online)
    cpus = {
        cpu: Cpu(
            id=cpu,
            core=cores.get(cpu, cpu),
            package=packages.get(cpu, _package_id(top, cpu)),
            node=node_of.get(cpu),
            llc=caches.get(cpu, (None, None))[0],
            llc_level=caches.get(cpu, (None, None))[1],
        )
        for cpu in sorted(online)
    }
    return Topology(cpus, nodes, tuple(_read_devices(top, nodes)))


def online_cpus(top: Path) -> frozenset[int]:
    """CPUs that run: those of `online` or, on old kernels, whose own `online` is not 0 and that have a topology."""
    text = read_text(top / _CPU / "online")
    if text:
        return frozenset(parse_list(text))
    present = frozenset(
        number
        for number, folder in numbered(top / _CPU, "cpu")
        if (folder / "topology").is_dir() and read_text(folder / "online") != "0"
    )
    if not present:
        raise TopologyError(f"{top / _CPU} lists no CPUs: not Linux, or a container without /sys")
    return present


def _shared(top: Path, online: frozenset[int], names: tuple[str, ...]) -> dict[int, int]:
    """CPU to the smallest CPU with which it shares a core or package; the first group that claims a CPU keeps it."""
    owner: dict[int, int] = {}
    for cpu in sorted(online):
        if cpu not in owner:
            group = read_set(top / _CPU / f"cpu{cpu}" / "topology", *names, holding=cpu)
            if group is not None:
                _claim(owner, group & online, cpu)
    return owner


def _claim(owner: dict[int, int], group: Iterable[int], cpu: int) -> None:
    """Give the CPUs of a group that have no owner yet to their smallest.

    An empty group means the CPU alone (ia64).
    """
    free = (set(group) or {cpu}) - owner.keys()
    if cpu in free:
        owner.update(dict.fromkeys(free, min(free)))


def _package_id(top: Path, cpu: int) -> int | None:
    text = read_text(top / _CPU / f"cpu{cpu}" / "topology" / "physical_package_id")
    return int(text) if text and int(text) >= 0 else None


def _last_level_caches(top: Path, online: frozenset[int]) -> dict[int, tuple[int, int]]:
    """CPU to (smallest CPU that shares its highest data cache, level of that cache)."""
    owner: dict[int, int] = {}
    level_of: dict[int, int] = {}
    for cpu in sorted(online):
        if cpu in owner:
            continue
        levels = [
            (int(read_text(folder / "level") or 0), folder)
            for _, folder in numbered(top / _CPU / f"cpu{cpu}" / "cache", "index")
            if read_text(folder / "type") in ("Unified", "Data")
        ]
        # The highest level that tells who shares it: some machines list a cache without that.
        for level, folder in sorted(levels, key=lambda entry: -entry[0]):
            group = read_set(folder, "shared_cpu", holding=cpu)
            if group is not None:
                _claim(owner, group & online, cpu)
                level_of[cpu] = level
                break
    return {cpu: (first, level_of[first]) for cpu, first in owner.items() if first in level_of}


def _read_nodes(top: Path, online: frozenset[int]) -> dict[int, Node]:
    """Nodes that exist and are online, without those made of a GPU's memory; one node where the kernel has none."""
    folders = _node_folders(top)
    if not folders:
        return {0: Node(0, online, _memory(top / "proc/meminfo"), {0: _NEAR}, ())}
    numbers = [number for number, _ in folders]
    gpu_memory = _gpu_memory_nodes(top)
    nodes: dict[int, Node] = {}
    owner: dict[int, int] = {}
    for number, folder in folders:
        if number in gpu_memory:
            continue
        claimed = (read_set(folder, "cpu") or frozenset()) & online
        cpus = frozenset(cpu for cpu in claimed if cpu not in owner)
        if claimed and not cpus:  # firmware gives the CPUs of an earlier node again: only the memory is new
            _merge_memory(nodes, owner[min(claimed)], number, _memory(folder / "meminfo"))
            continue
        owner.update(dict.fromkeys(cpus, number))
        distances = [int(word) for word in (read_text(folder / "distance") or "").split()]
        known = dict(zip(numbers, distances, strict=True)) if len(distances) == len(numbers) else {}
        nodes[number] = Node(number, cpus, _memory(folder / "meminfo"), known, (number,), _initiators(folder))
    return nodes


def _initiators(folder: Path) -> tuple[int, ...]:
    """From the access class of CPUs (1), or that of CPUs and devices (0)."""
    for name in ("access1", "access0"):
        found = tuple(number for number, _ in numbered(folder / name / "initiators", "node"))
        if found:
            return found
    return ()


def _node_folders(top: Path) -> list[tuple[int, Path]]:
    """The nodes that exist and are online; `possible` names more than exist, and folders of offline nodes may stay."""
    listed = read_text(top / _NODE / "online")
    alive = frozenset(parse_list(listed)) if listed else None
    return [entry for entry in numbered(top / _NODE, "node") if alive is None or entry[0] in alive]


def online_nodes(top: Path) -> frozenset[int]:
    """The kernel's numbers of the nodes that are online; empty where the kernel has no NUMA support."""
    return frozenset(number for number, _ in _node_folders(top))


def _merge_memory(nodes: dict[int, Node], into: int, number: int, memory: int | None) -> None:
    node = nodes[into]
    total = None if node.memory is None or memory is None else node.memory + memory
    nodes[into] = Node(node.id, node.cpus, total, node.distances, (*node.mems, number))


def _gpu_memory_nodes(top: Path) -> frozenset[int]:
    """Nodes that are the memory of an NVIDIA GPU (POWER9, Grace Hopper): not for the program's own memory."""
    statuses = [read_text(folder / "numa_status") or "" for folder in folders(top / _NVIDIA)]
    lines = [line.partition(":") for status in statuses for line in status.splitlines()]
    return frozenset(int(value) for key, _, value in lines if key.strip() == "Node" and value.strip().isdecimal())


def _memory(path: Path) -> int | None:
    """`MemTotal` in bytes, of a node's or the machine's meminfo."""
    for line in (read_text(path) or "").splitlines():
        before, found, after = line.partition("MemTotal:")
        if found and (not before or before.startswith("Node")):
            return int(after.split()[0]) * 1024
    return None


def _read_devices(top: Path, nodes: Mapping[int, Node]) -> Iterator[Device]:
    for folder in folders(top / _PCI):
        pci_class = read_hex(folder / "class")
        if pci_class >> 16 not in _ACCELERATOR_CLASSES and pci_class >> 8 != _COPROCESSOR:
            continue
        vendor = read_hex(folder / "vendor")
        if not vendor and (top / _NVIDIA / folder.name).is_dir():
            vendor = _NVIDIA_VENDOR
        yield Device(folder.name, pci_class, vendor, read_hex(folder / "device"), _device_node(folder, nodes))


def _device_node(folder: Path, nodes: Mapping[int, Node]) -> int | None:
    """The device's node: `numa_node`, else the one node that holds its local CPUs; with one node, that.

    `numa_node` is -1 where firmware says nothing, is missing on POWER9, and may name a node that is offline.
    """
    text = read_text(folder / "numa_node")
    if text and int(text) in nodes:
        return int(text)
    if len(nodes) == 1:
        return next(iter(nodes))
    local = read_set(folder, "local_cpu") or frozenset()
    near = [node.id for node in nodes.values() if node.cpus & local]
    return near[0] if len(near) == 1 else None
