"""Hosts that are Slurm jobs of their own: what Slurm is asked, and what is said where it refuses."""

from __future__ import annotations

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import slurm as module
from elastic_hydra.hosts.advised import advice_for


def keys(**changed: object) -> HostsConfig:
    return HostsConfig(engine="slurm", **changed)  # type: ignore[arg-type]


def test_keys_become_options_of_srun() -> None:
    options = module.options_of(
        keys(
            partition="gpu",
            timeout_min=90,
            gpus_per_node=4,
            cpus_per_task=16,
            mem_gb=1.5,
            constraint="a100|h100",
            signal_delay_s=60,
            additional_parameters={"mail_type": "FAIL", "exclusive": True, "requeue": False, "licenses": None},
        )
    )
    assert {
        "--partition=gpu",
        "--time=90",
        "--gpus-per-node=4",
        "--cpus-per-task=16",
        "--mem=1536M",
        "--constraint=a100|h100",
        "--signal=USR1@60",
        "--mail-type=FAIL",
        "--exclusive",
    } <= set(options)
    assert not any("requeue" in option or "licenses" in option for option in options)
    assert not any("--signal" in option for option in module.options_of(keys(signal_delay_s=0)))


def test_there_are_as_many_places_as_hosts_at_most() -> None:
    assert module.SlurmEngine(keys(max=2)).places() == ["job 1", "job 2"]


def test_without_slurm_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no program srun and no scancel here"):
        module.engine(keys())


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Invalid account or account/partition combination", "account=none-such: you cannot charge it there"),
        (
            "srun: error: Unable to allocate resources: Invalid qos specification",
            "qos=null: there is none of that name",
        ),
        ("Requested time limit is invalid (missing or exceeds some limit)", "timeout_min=99: more than that partition"),
        ("Job violates accounting/QOS policy (job submit limit)", "or for fewer hosts (hydra.launcher.hosts.max)"),
        (
            (
                "srun: error: Unable to allocate resources: Job violates accounting/QOS policy (job submit limit, "
                "user's size and/or time limits)"
            ),
            "That is a limit of your account's",
        ),
        ("srun: error: QOSMaxSubmitJobPerUserLimit", "or for fewer hosts (hydra.launcher.hosts.max)"),
        ("srun: error: AssocGrpSubmitJobsLimit", "That is a limit of your account's"),
        ("srun: error: Unable to allocate resources: Unable to contact slurm controller", "ask `scontrol ping`"),
        ("srun: fatal: Could not establish a configuration source", "start the sweep where `sinfo` works"),
    ],
)
def test_what_a_site_refuses_has_a_way_out(said: str, advice: str) -> None:
    sentences = module.advice(keys(account="none-such", timeout_min=99))
    assert advice in advice_for([said], sentences)
