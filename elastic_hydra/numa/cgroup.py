"""What the control groups of a process allow it to use: the one reader of cgroups, of version 1 and 2.

A limit may be set on any group around a process: Slurm and systemd set it on the group of the step or of the service,
and the process is in a group below that one. So all of these groups are read, from the group of the process outwards,
and the smallest limit counts. On systems that use both versions at once, each controller belongs to one version.

Everything is read below a root folder. It is `/` by default; tests and dumps of other machines have another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elastic_hydra.numa.sysfs import read_list, read_number, read_text

__all__ = [
    "GroupMemory",
    "cpu_quota",
    "cpuset",
    "group_folders",
    "group_memory",
    "memory_limit",
    "oom_kills",
    "process_limit",
    "warn_once",
]

log = logging.getLogger("elastic_hydra.numa")

_UNLIMITED = 1 << 60
"""Bytes from which a limit means "no limit": version 1 writes the largest multiple of a page for it."""

_VERSIONS = {"cgroup": 1, "cpuset": 1, "cgroup2": 2}
"""The version of the control groups that a kind of file system shows."""


@dataclass(frozen=True)
class GroupMemory:
    """The memory of the control group with the smallest limit around a process; without a limit, of its own group."""

    limit: int | None = None
    """Bytes that the group may use; None without a limit."""
    peak: int | None = None
    """The most bytes that the group has used at once; None where the kernel does not say."""


def group_memory(root: str | Path = "/", pid: int | str = "self") -> GroupMemory:
    """Read the memory limit of a process, and what its control groups have used.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    groups = [(folder, _limit(folder)) for folder in group_folders(root, "memory", pid)]
    limited = [(limit, folder) for folder, limit in groups if limit is not None]
    limit, group = min(limited, key=lambda item: item[0], default=(None, groups[0][0] if groups else None))
    if group is None:
        return GroupMemory()
    return GroupMemory(limit, _first_number(group, "memory.peak", "memory.max_usage_in_bytes"))


def oom_kills(root: str | Path = "/", pid: int | str = "self") -> int | None:
    """Read how many processes of a process's own group the kernel has killed for lack of memory; None: unknown.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    counts = (_kills(folder) for folder in group_folders(root, "memory", pid))
    return next((count for count in counts if count is not None), None)


def memory_limit(root: str | Path = "/", pid: int | str = "self") -> int | None:
    """Read how many bytes of memory a process's control groups allow; None without a limit.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    return group_memory(root, pid).limit


def cpu_quota(root: str | Path = "/", pid: int | str = "self") -> float | None:
    """Read how many CPUs' worth of time a process's control groups allow; None without a limit.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    limits = []
    for folder in group_folders(root, "cpu", pid):
        text = read_text(folder / "cpu.max") or " ".join(
            read_text(folder / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        )
        words = text.split()
        if len(words) == 2 and all(word.isdecimal() and int(word) > 0 for word in words):
            limits.append(int(words[0]) / int(words[1]))
        elif words and words[0] not in ("max", "-1"):  # "no limit" in version 2 and in version 1
            warn_once(f"the CPU quota of {folder}", text)
    return min(limits, default=None)


def process_limit(root: str | Path = "/", pid: int | str = "self") -> int | None:
    """Read how many processes and threads a process's control groups allow; None without a limit.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    texts = [read_text(folder / "pids.max") or "" for folder in group_folders(root, "pids", pid)]
    return min((int(text) for text in texts if text.isdecimal()), default=None)


def cpuset(kind: str, root: str | Path = "/", pid: int | str = "self") -> frozenset[int] | None:
    """Read which CPUs or memory nodes a process's cpuset has; None where no group says it.

    The nearest group that says it counts.

    Args:
        kind: `cpus` or `mems`.
        root: Folder with the machine's `sys` and `proc`.
        pid: The process; this one by default.
    """
    for folder in group_folders(root, "cpuset", pid):
        for name in (f"cpuset.{kind}.effective", f"cpuset.{kind}", kind):
            if members := read_list(folder / name):
                return members
    return None


def group_folders(root: str | Path, controller: str, pid: int | str = "self") -> list[Path]:
    """Find the folders of a process's groups for a controller, from the innermost group outwards.

    Args:
        root: Folder with the machine's `sys` and `proc`.
        controller: `memory`, `cpu`, `cpuset` or `pids`.
        pid: The process; this one by default.

    Returns:
        The folders that exist, those of version 1 before those of version 2.
    """
    top = Path(root)
    candidates = []
    for mount in _mounts(top, controller):
        path = _path_of_group(top, controller if mount.version == 1 else "", pid)
        if path is not None:
            inner = mount.inside(path)
            candidates += [mount.point / part for part in (inner, *inner.parents)]
    return [folder for folder in candidates if folder.is_dir()]


@dataclass(frozen=True)
class _Mount:
    """A folder that shows a hierarchy of control groups."""

    point: Path
    version: int
    group: str = "/"
    """The group that the folder itself stands for: in a container this may be the group of the container."""

    def inside(self, path: str) -> Path:
        """Return the path of a group below the mount.

        Args:
            path: The group's path, as `/proc/PID/cgroup` has it.
        """
        with contextlib.suppress(ValueError):
            return Path(path).relative_to(self.group)
        # The path belongs to another namespace. Some of its parents may exist below this mount all the same.
        return Path(path.strip("/"))


def _mounts(top: Path, controller: str) -> Iterator[_Mount]:
    """Find the mounts of version 1 that have a controller, and then those of version 2."""
    mounts = _from_mountinfo(top) or _from_mounts(top)
    for kind, options, mount in mounts:
        if mount.version == 1 and (kind == controller or controller in options.split(",")):
            yield mount
    yield from (mount for _, _, mount in mounts if mount.version == 2)


def _from_mountinfo(top: Path) -> list[tuple[str, str, _Mount]]:
    """Read the file system's kind, the options and the place of each mount, with the group that it shows."""
    mounts = []
    for line in (read_text(top / "proc/self/mountinfo") or "").splitlines():
        head, _, tail = line.partition(" - ")
        words, filesystem = head.split(), tail.split(" ", 2)
        if len(words) > 4 and len(filesystem) == 3 and filesystem[0] in _VERSIONS:
            mount = _Mount(top / words[4].strip("/"), _VERSIONS[filesystem[0]], words[3])
            mounts.append((filesystem[0], filesystem[2], mount))
    return mounts


def _from_mounts(top: Path) -> list[tuple[str, str, _Mount]]:
    """Read the same from `/proc/mounts`, an older file that does not tell the group. Dumps of machines have it."""
    lines = [line.split() for line in (read_text(top / "proc/mounts") or "").splitlines()]
    return [
        (words[2], words[3], _Mount(top / words[1].strip("/"), _VERSIONS[words[2]]))
        for words in lines
        if len(words) > 3 and words[2] in _VERSIONS
    ]


def _path_of_group(top: Path, controller: str, pid: int | str) -> str | None:
    for line in (read_text(top / "proc" / str(pid) / "cgroup") or "").splitlines():
        words = line.split(":", 2)
        if len(words) < 3:
            warn_once(f"/proc/{pid}/cgroup", line)
        elif controller in words[1].split(","):
            return os.path.normpath(words[2])
    return read_text(top / "proc" / str(pid) / "cpuset") if controller in ("cpuset", "") else None


def _limit(folder: Path) -> int | None:
    limit = _first_number(folder, "memory.max", "memory.limit_in_bytes")  # without a limit, the file says "max"
    return None if limit is None or limit >= _UNLIMITED else limit


def _kills(folder: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        for line in (read_text(folder / name) or "").splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def _first_number(folder: Path, *names: str) -> int | None:
    numbers = (read_number(folder / name) for name in names)
    return next((number for number in numbers if number is not None), None)


@cache
def warn_once(name: str, text: str) -> None:
    """Warn, once, that the content of a file cannot be understood: containers imitate files of the kernel.

    Args:
        name: What was read, for people.
        text: Its content.
    """
    log.warning("%s says %.80r, which makes no sense: passed over", name, text)
