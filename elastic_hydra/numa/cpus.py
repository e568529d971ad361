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
_MOST_THREADS = 8  # of a core, on any machine (POWER): a file that lists more is wrong


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
    found = {}
    for cpu in sorted(online):
        # A core is in one place: where files say otherwise of its second hardware thread, its first one counts.
        core = cores[cpu]
        own = caches.get(core, [])
        level, llc = own[0] if own else (None, None)
        inwards = tuple(first for _, first in own)
        found[cpu] = Cpu(cpu, core, packages.get(core), node_of.get(core), llc, level, inwards)
    return found


def online_cpus(top: Path) -> frozenset[int]:
    """CPUs that run: those of `online` or, on old kernels, whose own `online` is not 0 and that have a topology.

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

    CPUs are one core when the file of either says so: workers may be kept from sharing a core, and two cores that are
    taken for one do no harm, but one that is taken for two does.
    """
    members = {cpu: {cpu} for cpu in online}
    for cpu in online:
        told = read_set(top / _CPU / f"cpu{cpu}" / "topology", "core_cpus", "thread_siblings", holding=cpu)
        if told and len(told) <= _MOST_THREADS and not told & online <= members[cpu]:
            joined = members[cpu].union(*(members[sibling] for sibling in told & online))
            members.update(dict.fromkeys(joined, joined))
    return {cpu: min(core) for cpu, core in members.items()}


def _packages(top: Path, online: frozenset[int]) -> dict[int, int]:
    """CPU to the smallest CPU of its package; by number where the kernel lists no siblings."""
    owner: dict[int, int] = {}
    for cpu in sorted(online):
        if cpu not in owner:
            told = read_set(top / _CPU / f"cpu{cpu}" / "topology", "package_cpus", "core_siblings", holding=cpu)
            if told is not None:
                _claim(owner, told & online, cpu)
    by_number: dict[str, set[int]] = {}
    for cpu in sorted(online - owner.keys()):
        number = read_text(top / _CPU / f"cpu{cpu}" / "topology" / "physical_package_id")
        if number and number != "-1":
            by_number.setdefault(number, set()).add(cpu)
    for group in by_number.values():
        _claim(owner, group, min(group))
    return owner


def _caches(top: Path, online: frozenset[int], cores: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
    """Core to (level, smallest CPU that shares it) of each data cache that tells, the last level first."""
    owners: dict[int, dict[int, int]] = {}
    for core in sorted(set(cores.values())):  # hardware threads share all caches
        for _, folder in numbered(top / _CPU / f"cpu{core}" / "cache", "index"):
            if read_text(folder / "type") not in ("Unified", "Data"):
                continue
            owner = owners.setdefault(read_number(folder / "level") or 0, {})
            group = read_set(folder, "shared_cpu", holding=core) if core not in owner else None
            if group is not None:
                _claim(owner, group & online, core)
    found: dict[int, list[tuple[int, int]]] = {}
    for level, owner in sorted(owners.items(), reverse=True):
        for cpu, first in owner.items():
            found.setdefault(cpu, []).append((level, first))
    return found


def _claim(owner: dict[int, int], group: Iterable[int], cpu: int) -> None:
    """Give the CPUs of a group to their smallest, unless an earlier group has one of them: then this one is wrong.

    An empty group means the CPU alone (ia64).
    """
    members = set(group) or {cpu}
    if not members & owner.keys():
        owner.update(dict.fromkeys(members, min(members)))
