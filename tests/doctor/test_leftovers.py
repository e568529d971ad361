"""Processes that are left of dead sweeps are found, and those of living ones are not."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_hydra.doctor import leftovers
from elastic_hydra.doctor.finding import Finding
from elastic_hydra.journal.codec import encode
from elastic_hydra.journal.events import SweepBegan

pytestmark = pytest.mark.system


@pytest.fixture
def dead() -> int:
    """A process id that nobody has."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[int]:
    """A process that holds the lock of a journal in `tmp_path`."""
    fd = os.open(tmp_path / "journal.lock", os.O_RDWR | os.O_CREAT)
    process = subprocess.Popen(["sleep", "600"], pass_fds=[fd])
    os.close(fd)
    yield process.pid
    process.kill()
    process.wait()


def of(folder: Path, launcher: int, host: str) -> list[Finding]:
    """Return what is found when a launcher has written the journal of a folder."""
    (folder / "journal.jsonl").write_bytes(encode(SweepBegan(pid=launcher, host=host)))
    return [finding for finding in leftovers.look() if str(folder) in finding.text]


def test_a_process_that_holds_the_lock_of_a_dead_sweep_is_named_with_the_command_that_ends_it(
    tmp_path: Path, sleeper: int, dead: int
) -> None:
    (found,) = of(tmp_path, dead, socket.gethostname())
    assert f"whose launcher ({dead}) is dead: {sleeper} (sleep 600)" in found.text
    assert found.advice == f"if nothing needs them: kill {sleeper}"


def test_a_sweep_whose_launcher_lives_or_is_elsewhere_leaves_nothing(tmp_path: Path, sleeper: int, dead: int) -> None:
    assert of(tmp_path, os.getpid(), socket.gethostname()) == []
    assert of(tmp_path, dead, "another-host") == []
