"""CPUs as the kernel describes them: the core, package and data caches of each.

Read from /sys/devices/system/cpu (the kernel's Documentation/ABI/testing/sysfs-devices-system-cpu).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from elastic_hydra.numa.errors import TopologyError
from elastic_hydra.numa.sysfs import numbered, read_list, read_number, read_set, read_text

_CPU = "sys/devices/system/cpu"
_MOST_THREADS = 8
"""Hardware threads of a core at most, on any machine (POWER has 8): a file that lists more is wrong."""


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
    llc: int | None = None
    """Smallest CPU that shares the last-level cache; None without cache information."""
    llc_level: int | None = None
    """Level of that cache: 3 on most servers, 2 on some Arm machines."""
    caches: tuple[int, ...] = ()
    """Smallest CPU of each data cache, from the last level inwards: CPUs that share more of them are closer."""


def read_cpus(top: Path, node_of: dict[int, int]) -> dict[int, Cpu]:
    """The CPUs that are online, by number.

    Args:
        top: Folder with the machine's `sys`.
        node_of: CPU to NUMA node.

    Raises:
        TopologyError: There is no list of CPUs.
    """
    online = online_cpus(top)
    cores = _cores(top, online)
    packages = _packages(top, online)
    caches = _caches(top, online, cores)
    cpus = {}
    for cpu in sorted(online):
        # All hardware threads of a core are in one place. Where the files of two threads differ, those of the core's
        # first thread count.
        core = cores[cpu]
        caches_of_core = caches.get(core, [])
        level, llc = caches_of_core[0] if caches_of_core else (None, None)
        inwards = tuple(first for _, first in caches_of_core)
        cpus[cpu] = Cpu(cpu, core, packages.get(core), node_of.get(core), llc, level, inwards)
    return cpus


def online_cpus(top: Path) -> frozenset[int]:
    """CPUs that run.

    The file `online` lists them. Old kernels lack this file: there, a CPU runs if it has a topology and its own
    `online` is not 0.

    Raises:
        TopologyError: There is no list of CPUs.
    """
    online = read_list(top / _CPU / "online")
    if online:
        return online
    present = frozenset(
        number
        for number, folder in numbered(top / _CPU, "cpu")
        if (folder / "topology").is_dir() and read_text(folder / "online") != "0"
    )
    if not present:
        raise TopologyError(f"{top / _CPU} lists no CPUs: not Linux, or a container without /sys")
    return present


def _cores(top: Path, online: frozenset[int]) -> dict[int, int]:
    """CPU to the smallest CPU of its core.

    Two CPUs are of one core when the file of either of them says so. Taking two cores for one does no harm. Taking one
    core for two would let two workers share it, although `exclusive` promises that they do not.
    """
    members = {cpu: {cpu} for cpu in online}
    for cpu in online:
        siblings = read_set(top / _CPU / f"cpu{cpu}" / "topology", "core_cpus", "thread_siblings", holding=cpu)
        if siblings and len(siblings) <= _MOST_THREADS and not siblings & online <= members[cpu]:
            joined = members[cpu].union(*(members[sibling] for sibling in siblings & online))
            members.update(dict.fromkeys(joined, joined))
    return {cpu: min(core) for cpu, core in members.items()}


def _packages(top: Path, online: frozenset[int]) -> dict[int, int]:
    """CPU to the smallest CPU of its package; by number where the kernel lists no siblings."""
    owner: dict[int, int] = {}
    for cpu in sorted(online):
        if cpu not in owner:
            siblings = read_set(top / _CPU / f"cpu{cpu}" / "topology", "package_cpus", "core_siblings", holding=cpu)
            if siblings is not None:
                _claim(owner, siblings & online, cpu)
    by_number: dict[str, set[int]] = {}
    for cpu in sorted(online - owner.keys()):
        number = read_text(top / _CPU / f"cpu{cpu}" / "topology" / "physical_package_id")
        if number and number != "-1":
            by_number.setdefault(number, set()).add(cpu)
    for group in by_number.values():
        _claim(owner, group, min(group))
    return owner


def _caches(top: Path, online: frozenset[int], cores: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
    """Core to its data caches, the last level first: (level, smallest CPU that shares the cache).

    A cache whose file does not say who shares it is left out.
    """
    owners: dict[int, dict[int, int]] = {}
    for core in sorted(set(cores.values())):  # hardware threads share all caches
        for _, folder in numbered(top / _CPU / f"cpu{core}" / "cache", "index"):
            if read_text(folder / "type") not in ("Unified", "Data"):
                continue
            owner = owners.setdefault(read_number(folder / "level") or 0, {})
            group = read_set(folder, "shared_cpu", holding=core) if core not in owner else None
            if group is not None:
                _claim(owner, group & online, core)
    caches_of_core: dict[int, list[tuple[int, int]]] = {}
    for level, owner in sorted(owners.items(), reverse=True):
        for cpu, first in owner.items():
            caches_of_core.setdefault(cpu, []).append((level, first))
    return caches_of_core


def _claim(owner: dict[int, int], group: Iterable[int], cpu: int) -> None:
    """Let the smallest CPU of a group own the whole group.

    A group that shares a CPU with an earlier group is wrong, and is passed over. An empty group means the CPU alone:
    that is what ia64 writes.
    """
    members = set(group) or {cpu}
    if not members & owner.keys():
        owner.update(dict.fromkeys(members, min(members)))
