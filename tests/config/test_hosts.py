"""`hydra.launcher.hosts`: what each key may be, and what a job on another machine cannot have."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig, check_duration_on_hosts, check_hosts, without_effect
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.whole_sweep import whole_sweep_of
from tests.config.settings import launch, settings


def lines(**changed: Any) -> list[str]:
    problems = Problems()
    check_hosts(whole_sweep_of(settings(**{f"hosts__{key}": value for key, value in changed.items()})), problems)
    return [line.removeprefix("hydra.launcher.hosts.") for line in problems.lines]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"engine": "allocation"},
        {"engine": "slurm", "max": 1},
        {"engine": "ray", "start_timeout": None},
        {"engine": "ssh", "list": ["n1", "me@n2"]},
        {"engine": "ssh", "list": "hosts.txt"},
        {"engine": "my_package.docker"},
        {"silence": 0.1, "python": "/opt/env/bin/python"},
        {"engine": "ray", "address": "local", "gpus_per_host": 0, "resources": {"TPU": 0.5}},
        {"engine": "ray", "address": "head.example:6379", "cpus_per_host": 8},
        {"engine": "slurm", "timeout_min": 3, "name": "lr-sweep.2", "additional_parameters": {"mail-type": "FAIL"}},
    ],
    ids=str,
)
def test_what_may_be_said_passes(changed: dict[str, Any]) -> None:
    assert lines(**changed) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"engine": "shh", "list": ["n1"]},
            (
                "engine=shh: must be one of local, allocation, slurm, ssh, ray, or a module of yours with a dot in its "
                "name, as my_package.docker (did you mean ssh?)"
            ),
        ),
        ({"max": 0}, "max=0: must be 1 or more"),
        ({"python": " "}, "python='': must not be empty; null is the default"),
        ({"silence": 0}, "silence=0: must be more than 0 (seconds)"),
        ({"engine": "ray", "start_timeout": -1.0}, "start_timeout=-1.0: must be more than 0 (seconds)"),
        ({"engine": "ssh"}, "list=[]: ssh needs the names of the hosts, as [n1, n2], or of a file with them"),
        (
            {"engine": "ssh", "list": [1, 2]},
            "list=[1, 2]: must be a list of hosts, as [n1, n2], or the name of a file",
        ),
        ({"cpus_per_task": 0}, "cpus_per_task=0: must be more than 0"),
        ({"mem_gb": -1.0}, "mem_gb=-1.0: must be more than 0"),
        ({"timeout_min": 2}, "signal_delay_s=120: must be less than hosts.timeout_min=2 is in seconds"),
        ({"signal_delay_s": -1}, "signal_delay_s=-1: must be 0 or more (seconds)"),
        ({"name": "a b"}, "name=a b: must consist of letters, digits, and . + - _"),
        ({"address": "n1"}, "address=n1: must be auto, local, or HOST:PORT of the cluster's head"),
        (
            {"address": "ray://n1:10001"},
            (
                "address=ray://n1:10001: Ray Client carries no streams of hosts: start the launcher on a machine of "
                "the cluster, and set auto"
            ),
        ),
        ({"gpus_per_host": -1}, "gpus_per_host=-1: must be 0 or more"),
        ({"cpus_per_host": -1}, "cpus_per_host=-1: must be 0 or more"),
        ({"resources": {"TPU": 0.0}}, "resources.TPU=0.0: must be more than 0"),
        (
            {"additional_parameters": {"output": "/dev/null"}},
            (
                "additional_parameters.output=/dev/null: srun's input and output lead to the host, and what jobs write "
                "is in the sweep's directory: leave it out"
            ),
        ),
        (
            {"additional_parameters": {"ntasks_per_node": 4}},
            "additional_parameters.ntasks_per_node=4: a host is one task on one node: leave it out",
        ),
    ],
    ids=str,
)
def test_what_may_not_be_said_is_refused(changed: dict[str, Any], line: str) -> None:
    assert line in lines(**changed)


def test_a_list_that_nobody_would_read_is_refused() -> None:
    assert lines(engine="slurm", list=["n1"]) == [
        "list=['n1']: only hosts=ssh has a list of hosts: choose it, or leave this out"
    ]
    assert lines(engine="my_package.docker", list=["n1"]) == [], "a way of one's own reads what it likes"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"debug": "rank0"}, "debug=rank0: works on the launcher's own machine only"),
        ({"start_method": "inline", "nproc_per_node": 1}, "start_method=inline: works on the launcher's own machine"),
    ],
)
def test_what_only_this_machine_can_give_is_refused_on_others(changed: dict[str, Any], words: str) -> None:
    launch(**changed)
    with pytest.raises(ConfigError) as refused:
        launch(hosts__engine="ray", **changed)
    assert words in str(refused.value)


DURATION = "hydra.launcher.resources.duration"


@pytest.mark.parametrize(
    ("engine", "timeout_min", "duration", "lines"),
    [
        ("slurm", 60, "1h", []),
        (
            "slurm",
            60,
            "2h",
            ["hydra.launcher.resources.duration=2h: must be at most hosts.timeout_min=60, a host's time"],
        ),
        ("slurm", None, "2h", []),
        ("slurm", 60, None, []),
        ("ssh", 60, "2h", []),
    ],
)
def test_a_job_is_not_longer_than_a_host_is_there(
    engine: str, timeout_min: int | None, duration: str | None, lines: list[str]
) -> None:
    problems = Problems()
    check_duration_on_hosts(engine, timeout_min, duration, problems)
    assert problems.lines == lines


def test_a_job_of_several_nodes_needs_no_word_about_its_rendezvous() -> None:
    gang = launch(hosts__engine="ray", nodes=3)
    assert (gang.demand.nodes, gang.is_gang, gang.launcher_per_node) == (3, True, False)
    assert (gang.rendezvous.backend, gang.rendezvous.endpoint) == ("static", "")
    said = launch(hosts__engine="ray", nodes=3, rendezvous__endpoint="login:29400", rendezvous__join_timeout=60)
    assert (said.rendezvous.endpoint, said.rendezvous.configs["timeout"]) == ("login:29400", 60)


def test_launchers_on_each_node_take_one_slot_each() -> None:
    several = launch(nodes=3, rendezvous__backend="c10d", rendezvous__endpoint="n0:29400")
    assert (several.demand.nodes, several.is_gang, several.launcher_per_node) == (1, False, True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"nodes": "2:4"}, "nodes=2:4: with hosts.engine=ray the number of nodes is fixed"),
        ({"nodes": 2, "rendezvous__node_rank": 0}, "rendezvous.node_rank=0: one launcher starts all nodes"),
        ({"nodes": 2, "rendezvous__backend": "c10d"}, "rendezvous.backend=c10d: a job on several hosts"),
        ({"nodes": 2, "rendezvous__endpoint": "login"}, "rendezvous.endpoint=login: must be HOST:PORT"),
    ],
    ids=str,
)
def test_what_the_launcher_of_all_nodes_cannot_do_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        launch(hosts__engine="ray", **changed)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (HostsConfig(), ""),
        (HostsConfig(engine="ssh", list=["n1"], partition="gpu", address="local"), "address=local, partition=gpu"),
        (HostsConfig(engine="slurm", partition="gpu", gpus_per_host=2, max=4), "gpus_per_host=2"),
        (HostsConfig(engine="ray", timeout_min=5, address="local"), "timeout_min=5"),
        (HostsConfig(engine="local", partition="gpu"), "partition=gpu"),
        (HostsConfig(engine="my_package.docker", partition="gpu"), ""),
    ],
)
def test_keys_of_another_way_to_reach_hosts_are_named(keys: HostsConfig, said: str) -> None:
    assert without_effect(keys) == said


@pytest.mark.parametrize("gpus", [0, 4, "a100:4", "a100_80gb_pcie:4", None])
def test_gpus_may_have_a_type(gpus: object) -> None:
    assert lines(engine="slurm", gpus_per_node=gpus) == []


@pytest.mark.parametrize("gpus", [-1, "many", "gpu:", 1.5])
def test_gpus_are_counted(gpus: object) -> None:
    assert lines(engine="slurm", gpus_per_node=gpus) == [
        f"gpus_per_node={gpus}: must be 0 or more, or with a type, as a100:4"
    ]


@pytest.mark.parametrize("name", ["export", "requeue", "open_mode"])
def test_options_that_would_take_a_host_away_are_refused(name: str) -> None:
    (line,) = lines(engine="slurm", additional_parameters={name: True})
    assert line.endswith(": leave it out")
