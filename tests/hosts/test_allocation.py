"""Hosts of the allocation that the launcher is in: where there are none."""

from __future__ import annotations

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import allocation

KEYS = HostsConfig(engine="allocation")


@pytest.fixture
def has_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "require_programs", lambda *_: None)


@pytest.mark.usefixtures("has_slurm")
def test_outside_of_an_allocation_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match="this process is in no allocation of Slurm's"):
        allocation.engine(KEYS)


@pytest.mark.usefixtures("has_slurm")
def test_a_job_whose_nodes_nobody_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.delenv("SLURM_JOB_NODELIST", raising=False)
    with pytest.raises(ConfigError, match="SLURM_JOB_ID=5 is set, but not SLURM_JOB_NODELIST"):
        allocation.engine(KEYS)


@pytest.mark.usefixtures("has_slurm")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_launcher_that_srun_has_started_several_times_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    for name, value in {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": rank}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="srun has started this launcher 2 times"):
        allocation.engine(KEYS)
