"""The control groups around a process, of version 1 and 2: the smallest limit counts, wherever it is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_hydra.numa.cgroup import cpu_quota, cpuset, group_memory, memory_limit, oom_kills, process_limit
from tests.numa.machines import write

GB = 10**9
UNLIMITED = "9223372036854771712"

SECOND = {
    "proc/self/cgroup": "0::/slurm/job_7/step_0/task_0",
    "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
}
JOB = "sys/fs/cgroup/slurm/job_7"
STEP = f"{JOB}/step_0"

FIRST = {
    "proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/user\n3:memory:/slurm/job_7/step_0\n0::/",
    "proc/self/mountinfo": (
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    ),
}
FIRST_STEP = "sys/fs/cgroup/memory/slurm/job_7/step_0"


def test_version_2_has_the_limits_of_the_groups_around(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        SECOND
        | {
            f"{STEP}/task_0/memory.max": "max",
            f"{STEP}/task_0/memory.peak": str(GB),
            f"{STEP}/task_0/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0",
            f"{STEP}/memory.max": str(4 * GB),
            f"{STEP}/memory.peak": str(3 * GB),
            f"{STEP}/memory.events": "oom_kill 9",
            f"{JOB}/memory.max": str(8 * GB),
            f"{JOB}/cpu.max": "150000 100000",
            f"{JOB}/pids.max": "500",
            f"{STEP}/pids.max": "max",
            f"{STEP}/cpuset.cpus.effective": "4-7",
            f"{JOB}/cpuset.cpus.effective": "0-7",
        },
    )
    assert memory_limit(root) == 4 * GB
    assert group_memory(root).peak == 3 * GB  # of the group with the limit
    assert oom_kills(root) == 2  # of the process's own group
    assert (cpu_quota(root), process_limit(root)) == (1.5, 500)
    assert (cpuset("cpus", root), cpuset("mems", root)) == (frozenset({4, 5, 6, 7}), None)


def test_version_1_has_the_limits_of_the_groups_around(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        FIRST
        | {
            f"{FIRST_STEP}/memory.limit_in_bytes": UNLIMITED,
            f"{FIRST_STEP}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
            "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": str(2 * GB),
            "sys/fs/cgroup/memory/slurm/job_7/memory.max_usage_in_bytes": str(GB),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/cpu/user/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert (memory_limit(root), group_memory(root).peak, oom_kills(root)) == (2 * GB, GB, 1)
    assert cpu_quota(root) == 2.0


@pytest.mark.parametrize("path", ["/docker/abc/task", "/task"], ids=["the host's path", "the container's own"])
def test_in_a_container_its_own_group_is_what_is_mounted(tmp_path: Path, path: str) -> None:
    files = {
        "proc/self/cgroup": f"0::{path}",
        "proc/self/mountinfo": "30 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw",
        "sys/fs/cgroup/task/memory.max": str(GB),
        "sys/fs/cgroup/memory.max": str(2 * GB),
    }
    assert memory_limit(write(tmp_path, files)) == GB


def test_a_path_that_is_not_shown_here_stands_for_the_group_that_is(tmp_path: Path) -> None:
    files = SECOND | {"proc/self/cgroup": "0::/../elsewhere", "sys/fs/cgroup/memory.max": str(GB)}
    assert memory_limit(write(tmp_path, files)) == GB


@pytest.mark.parametrize("files", [{}, SECOND, FIRST], ids=["no cgroups", "version 2", "version 1"])
def test_without_a_limit_there_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    root = write(tmp_path, files)
    assert (memory_limit(root), cpu_quota(root), process_limit(root), oom_kills(root)) == (None,) * 4
