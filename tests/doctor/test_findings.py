"""What each part of the host looks like when something is wrong with it, and the way out."""

from __future__ import annotations

import resource
import shutil
import socket
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.numa import Cpus, Memory, NumaConfig
from elastic_hydra.doctor import cpus, gpus, limits, memory, network, packages
from elastic_hydra.doctor.finding import Finding, Severity
from elastic_hydra.numa import nvml
from elastic_hydra.numa.machine import read_machine
from tests.numa.machines import machine, write

OK, WARNING, PROBLEM = Severity.ok, Severity.warning, Severity.problem


def facts(**settings: Any) -> HostFacts:
    return HostFacts(**{"cpus": 4, "gpus": 0, "torch": (2, 13), "memory": 1 << 40, **settings})


def only(findings: list[Finding], severity: Severity) -> Finding:
    """Return the one finding that is as bad as that."""
    (found,) = [finding for finding in findings if finding.severity == severity]
    assert severity == OK or found.advice, "whoever reads it knows what to do"
    return found


# --- packages ---------------------------------------------------------------------------------------------------------


def test_packages_that_fit_are_named_with_their_versions() -> None:
    found = list(packages.look())
    assert {finding.severity for finding in found} == {OK}
    assert f"torch {metadata.version('torch')}" in found[0].text


def test_a_package_that_is_too_old_is_a_problem_and_the_command_that_mends_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.8.1" if name == "torch" else real(name))
    found = only(list(packages.look()), PROBLEM)
    assert found.text == "torch 2.8.1 does not fit"
    assert found.advice == 'pip install "torch<3,>=2.9"'


def test_a_package_that_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def without_tblib(name: str) -> str:
        if name == "tblib":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", without_tblib)
    assert only(list(packages.look()), PROBLEM).text == "tblib is not installed"


# --- GPUs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def driver_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [nvml.Gpu("00000000:01:00.0", ""), nvml.Gpu("00000000:02:00.0", "")]
    monkeypatch.setattr(nvml, "load", object)
    monkeypatch.setattr(nvml, "read_gpus", lambda library: known)
    used = dict(zip((gpu.address for gpu in known), (1 << 20, 9 << 30), strict=True))
    monkeypatch.setattr(nvml, "used_memory", lambda library, addresses: {name: used[name] for name in addresses})


@pytest.mark.usefixtures("driver_with_two")
def test_a_gpu_that_others_use_is_named() -> None:
    found = only(list(gpus.look(facts(gpus=2), {})), WARNING)
    assert found.text == "9.7 GB of GPU 1 (00000000:02:00.0) are in use"


@pytest.mark.usefixtures("driver_with_two")
@pytest.mark.parametrize(
    ("built_for", "environ", "severity", "words"),
    [
        (None, {}, WARNING, "built without CUDA"),
        ("13.0", {"CUDA_VISIBLE_DEVICES": ""}, WARNING, "CUDA_VISIBLE_DEVICES='' shows none"),
        ("13.0", {}, PROBLEM, "torch for CUDA 13.0 sees none"),
    ],
)
def test_gpus_that_torch_does_not_see_are_explained(
    monkeypatch: pytest.MonkeyPatch, built_for: str | None, environ: dict[str, str], severity: Severity, words: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_for)
    found = next(iter(gpus.look(facts(gpus=0), environ)))
    assert (found.severity, words in found.text) == (severity, True), found


# --- CPUs -------------------------------------------------------------------------------------------------------------


def test_profiles_say_what_they_would_bind_and_why_not(tmp_path: Path) -> None:
    host = read_machine(write(tmp_path, machine([[0, 1], [2, 3]])))
    profiles = {
        "node": NumaConfig(cpus=Cpus.node),
        "none": NumaConfig(cpus=Cpus.none, memory=Memory.none),
        "large": NumaConfig(cpus=Cpus.core, cores_per_worker=8),
    }
    found = {finding.part: finding.text for finding in cpus.look(host, facts(), profiles, {})}
    assert found["CPUs"].startswith("4 of")
    assert found["numa=node"].startswith("would bind 1 worker to 2 of 4 CPUs")
    assert found["numa=none"] == "binds nothing"
    assert "cores_per_worker=8" in found["numa=large"]


def test_every_profile_that_comes_with_the_package_is_looked_at() -> None:
    assert {"none", "node", "exclusive", "spread"} <= set(cpus.profiles())


def test_a_quota_below_the_number_of_cpus_is_said(tmp_path: Path) -> None:
    host = read_machine(write(tmp_path, machine([[0, 1], [2, 3]])))
    assert "1.5 CPUs' worth of time on 4" in only(list(cpus.look(host, facts(quota=1.5), {}, {})), WARNING).text


# --- memory -----------------------------------------------------------------------------------------------------------


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "severity"), [(1 << 26, PROBLEM), (1 << 29, WARNING), (1 << 33, OK)])
def test_shared_memory_that_is_scarce_is_told_before_a_loader_dies_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, severity: Severity
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 34, 0, free) if path == tmp_path else real(path))
    (found,) = [finding for finding in memory.look(facts(), tmp_path) if finding.part == str(tmp_path)]
    assert found.severity == severity
    assert ("--shm-size" in found.advice) == (severity != OK)


def test_a_limit_of_the_control_group_is_named() -> None:
    assert next(iter(memory.look(facts(memory=1 << 30)))).text.startswith("1.1 GB of ")


# --- network ----------------------------------------------------------------------------------------------------------


def nowhere(name: str) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("resolve", "words"),
    [
        (nowhere, "has no address"),
        (lambda name: ["127.0.1.1"], "other hosts cannot reach that"),
        (lambda name: ["203.0.113.9"], "no address of this host"),
    ],
)
def test_a_name_by_which_no_other_host_reaches_this_one_is_told(resolve: network.Resolve, words: str) -> None:
    found = only(list(network.look({}, resolve)), WARNING)
    assert words in found.text
    assert "hydra.launcher.rendezvous.local_addr=" in found.advice


def test_an_interface_that_is_not_there_is_a_problem() -> None:
    found = only(list(network.look({"GLOO_SOCKET_IFNAME": "nosuch0"}, lambda name: [])), PROBLEM)
    assert "GLOO_SOCKET_IFNAME=nosuch0" in found.text
    assert "lo" in found.advice


@pytest.mark.parametrize(
    ("variable", "value", "there"),
    [
        ("GLOO_SOCKET_IFNAME", "lo", True),
        ("NCCL_SOCKET_IFNAME", "l", True),
        ("NCCL_SOCKET_IFNAME", "=l", False),
        ("NCCL_SOCKET_IFNAME", "^docker,virbr", True),
        ("NCCL_SOCKET_IFNAME", "nosuch,lo", False),
    ],
)
def test_nccl_takes_beginnings_of_names_and_exclusions(variable: str, value: str, there: bool) -> None:
    found = [finding for finding in network.look({variable: value}, lambda name: []) if finding.severity == PROBLEM]
    assert (not found) == there


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("soft", "severity"), [(20, PROBLEM), (256, WARNING), (4096, OK)])
def test_few_open_files_are_told_with_the_command_that_raises_the_limit(
    monkeypatch: pytest.MonkeyPatch, soft: int, severity: Severity
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, 65536))
    found = next(iter(limits.look(facts())))
    assert found.severity == severity
    assert ("ulimit -n" in found.advice) == (severity != OK)


def test_few_processes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "process_limit", lambda: 100)
    found = list(limits.look(facts(gpus=8)))[-1]
    assert (found.part, found.severity) == ("processes", WARNING)
