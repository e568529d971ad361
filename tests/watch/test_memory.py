"""Lack of memory, by a limit of the process and by the kernel's killer in a control group."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from elastic_hydra.watch.memory import count_kills, memory_facts
from tests.helpers.groups import Launched, control_group, no_wait

pytestmark = pytest.mark.system


def takes_too_much() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    bytearray(8 << 30)


def allocates_a_tensor() -> None:
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    torch.empty(8 << 30, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("entrypoint", "words"), [(takes_too_much, "MemoryError"), (allocates_a_tensor, "allocate memory")]
)
def test_an_allocation_that_fails_is_lack_of_memory(entrypoint: object, words: str, tmp_path: Path) -> None:
    launched = Launched(tmp_path, workers=1)
    error = launched.fail(entrypoint, retry=no_wait(only_on=["transient"]))
    assert launched.kinds == ["oom"]
    assert error.verdict is not None
    assert words in error.verdict.failure.reason


def test_without_a_kill_nothing_is_claimed() -> None:
    facts = memory_facts(count_kills(), [os.getpid()])
    assert (facts.kills, facts.killed_pids) == (0, ())
    assert facts.host_total is not None


SOURCE = """
    import json, os, sys
    from elastic_hydra import LaunchConfig, elastic_launch
    from elastic_hydra.config.retry import RetryConfig
    from elastic_hydra.elastic.worker_failure import WorkersFailedError
    from elastic_hydra.elastic.logs import JobLogs

    def hoard():
        if os.environ["RANK"] == "1":
            # The one that shall be killed, not the launcher.
            open("/proc/self/oom_score_adj", "w").write("1000")
            hoarded = b"x" * (2 << 30)

    if __name__ == "__main__":
        open(sys.argv[1], "w").write(str(os.getpid()))
        config = LaunchConfig(1, 1, 2, start_method="warm", retry=RetryConfig(), logs_specs=JobLogs(sys.argv[2]))
        try:
            elastic_launch(config, hoard)()
        except WorkersFailedError as error:
            print(json.dumps(error.verdict.failure.as_dict()))
"""


def test_the_kernels_killer_is_named_with_figures(tmp_path: Path) -> None:
    with control_group(1 << 30) as group:
        script = tmp_path / "script.py"
        script.write_text(textwrap.dedent(SOURCE))
        command = [sys.executable, str(script), str(group / "cgroup.procs"), str(tmp_path / "logs")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    failure = json.loads(done.stdout)
    assert (failure["kind"], failure["rank"], failure["signal"]) == ("oom", 1, "SIGKILL")
    assert "rank 1 " in failure["reason"]
    assert "was killed by the kernel for lack of memory" in failure["reason"]
    assert "the cgroup's peak was 1.1 GB, its limit is 1.1 GB" in failure["reason"]
