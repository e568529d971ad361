"""A login shell of the tests' Slurm cluster: Slurm's commands lead there from this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.slurm import Cluster

__all__ = ["login_shell"]


@pytest.fixture
def login_shell(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Have Slurm's commands on PATH as in a login shell of the cluster, and none of Slurm's other variables."""
    folder = tmp_path / "bin"
    slurm.write_commands(folder)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", slurm.environ["SLURM_CONF"])
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return slurm
