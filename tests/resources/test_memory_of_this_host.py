"""What `resources.memory_per_job` is counted against: the memory that this process may use, not all that there is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.groups import control_group

pytestmark = pytest.mark.system

LIMIT = 3 << 30

PROGRAM = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
from elastic_hydra.resources.facts import facts_of_this_host
print(facts_of_this_host().memory)
"""


def test_in_a_nested_group_it_is_the_limit_of_the_group_around() -> None:
    """As under Slurm and systemd: the group of the step has the limit, the processes are in one below it."""
    with control_group(LIMIT) as group:
        inner = group / "step"
        inner.mkdir()
        try:
            command = [sys.executable, "-c", PROGRAM, str(inner / "cgroup.procs")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        finally:
            inner.rmdir()
    assert int(done.stdout) == LIMIT
