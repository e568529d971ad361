"""A login shell of the tests' Slurm cluster: Slurm's commands lead there from this process."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster

__all__ = ["login_shell"]

_COMMANDS = ("sbatch", "srun", "scancel", "scontrol", "squeue", "salloc", "sinfo")


@pytest.fixture
def login_shell(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Have Slurm's commands on PATH as in a login shell of the cluster, and none of Slurm's other variables."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in _COMMANDS:
        command = slurm.command([str(shutil.which(name))])
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (folder / name).chmod(0o755)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", slurm.environ["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return slurm
