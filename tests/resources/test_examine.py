"""What makes a host unfit for jobs, and what is found on this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.resources.examine import Examined, examine, unfit
from elastic_hydra.supervisor import pickles
from tests.config.settings import CPU_HOST

KEY, FOLDER = "hydra.sweep.dir", Path("/sweeps/1")


@pytest.fixture
def found() -> Examined:
    machine: Any = None
    return Examined(CPU_HOST, machine, token="abc", shared_memory=1 << 30)


def test_a_host_that_sees_the_directory_is_fit(found: Examined) -> None:
    assert unfit(found, "abc", FOLDER, KEY) == ""
    assert unfit(replace(found, shared_memory=-1), "abc", FOLDER, KEY) == ""


@pytest.mark.parametrize("token", ["", "abd"])
def test_a_host_with_another_directory_is_not(found: Examined, token: str) -> None:
    said = unfit(replace(found, token=token), "abc", FOLDER, KEY)
    assert said.startswith("it does not see the sweep's directory, hydra.sweep.dir=/sweeps/1: choose one that")


def test_a_host_without_shared_memory_is_not(found: Examined) -> None:
    assert "are free in its /dev/shm" in unfit(replace(found, shared_memory=1 << 20), "abc", FOLDER, KEY)


def test_a_host_whose_gpus_are_in_use_is_not(found: Examined) -> None:
    said = unfit(replace(found, gpus_in_use=("0000:01:00.0",)), "abc", FOLDER, KEY)
    assert said.startswith("its GPUs 0000:01:00.0 are in use already")


def test_this_host_is_examined_and_what_is_found_can_travel(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    assert examine(str(token_file), lambda environ: 60.0).token == ""
    token_file.write_text("abc")
    found = examine(str(token_file), lambda environ: 60.0)
    assert found.token == "abc"
    assert found.facts.cpus > 0
    assert pickles.loads(pickles.dumps(found)) == found
