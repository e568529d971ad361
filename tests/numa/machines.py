"""Machines for tests: small ones written here, and real ones from the topology data beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.config.lists import format_list

DATA = Path(__file__).resolve().parents[3] / "shared" / "topologies"
REAL = sorted(path.stem for path in (DATA / "machines").glob("*.json"))
NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"


def real_machines() -> list[Any]:
    """Parameters for a test over all real machines; one that is left out where the data is not there."""
    return [pytest.param(name, marks=pytest.mark.topologies) for name in REAL or [""]]


def truth(name: str) -> dict[str, Any]:
    """What hwloc says of a real machine."""
    found: dict[str, Any] = json.loads((DATA / "truth" / f"{name}.json").read_text())
    return found


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def write_real(root: Path, name: str) -> Path:
    """A real machine's sysfs and procfs below a root."""
    return write(root, json.loads((DATA / "machines" / f"{name}.json").read_text()))


def machine(
    nodes: Sequence[Sequence[int]],
    *,
    threads: int = 1,
    packages: Sequence[Sequence[int]] = (),
    caches: Sequence[Sequence[int]] = (),
    inner_caches: Sequence[Sequence[int]] = (),
    memory: Sequence[int] = (),
    distances: Sequence[Sequence[int]] = (),
    gpus: Sequence[int | None] = (),
    vendor: str = NVIDIA,
    mems: str = "",
    cpus: str = "",
) -> dict[str, str]:
    """The files of a small machine.

    Args:
        nodes: Cores of each node, by their first CPU; hardware thread t of core c is CPU c + t * (number of cores).
        threads: Hardware threads per core.
        packages: Cores of each package; one per node by default.
        caches: Cores behind each last-level cache; none by default.
        inner_caches: Cores behind each second-level cache; none by default.
        memory: GiB per node, 4 by default.
        distances: Rows of the distance table; 10 and 20 by default.
        gpus: The node of each GPU, None for one whose place is not told.
        vendor: The GPUs' PCI vendor.
        mems: The process's Mems_allowed_list; all by default.
        cpus: The process's Cpus_allowed_list; all by default.
    """
    total = sum(map(len, nodes))
    distances = distances or [[10 if a == b else 20 for b in range(len(nodes))] for a in range(len(nodes))]

    def all_threads(cores: Sequence[int]) -> str:
        return format_list(core + thread * total for core in cores for thread in range(threads))

    files = {
        "sys/devices/system/cpu/online": f"0-{total * threads - 1}",
        "sys/devices/system/node/online": f"0-{len(nodes) - 1}",
        "sys/devices/system/node/possible": f"0-{len(nodes) - 1}",
        "proc/self/status": f"Cpus_allowed_list:\t{cpus or f'0-{total * threads - 1}'}\n"
        f"Mems_allowed_list:\t{mems or f'0-{len(nodes) - 1}'}\n",
    }
    for number, cores in enumerate(nodes):
        base = f"sys/devices/system/node/node{number}"
        gigabytes = memory[number] if memory else 4
        files[f"{base}/cpulist"] = all_threads(cores)
        files[f"{base}/meminfo"] = f"Node {number} MemTotal: {gigabytes << 20} kB"
        files[f"{base}/distance"] = " ".join(map(str, distances[number]))
    for core in range(total):
        for cpu in (core + thread * total for thread in range(threads)):
            base = f"sys/devices/system/cpu/cpu{cpu}"
            files[f"{base}/topology/core_cpus_list"] = all_threads([core])
            for package in packages or nodes:
                if core in package:
                    files[f"{base}/topology/package_cpus_list"] = all_threads(package)
            for level, groups in ((2, inner_caches), (3, caches)):
                for cache in groups:
                    if core in cache:
                        files[f"{base}/cache/index{level}/level"] = str(level)
                        files[f"{base}/cache/index{level}/type"] = "Unified"
                        files[f"{base}/cache/index{level}/shared_cpu_list"] = all_threads(cache)
    return files | _gpus(gpus, vendor)


def _gpus(nodes: Sequence[int | None], vendor: str) -> dict[str, str]:
    files = {}
    for number, node in enumerate(nodes):
        base = f"sys/bus/pci/devices/0000:{number + 1:02x}:00.0"
        files[f"{base}/class"] = "0x030200"
        files[f"{base}/vendor"] = vendor
        files[f"{base}/device"] = "0x2330"
        files[f"{base}/numa_node"] = str(-1 if node is None else node)
    return files
