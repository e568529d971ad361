"""Hosts of the allocation that the launcher is in."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import allocation
from elastic_hydra.supervisor.process import Process
from tests.helpers.slurm import Cluster, needs_slurm
from tests.hosts.hosts import await_end, connect, is_there, start

pytestmark = needs_slurm

KEYS = HostsConfig(engine="allocation")


@pytest.fixture
def allocate(login_shell: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Give a function that puts this process into an allocation, as `salloc` does with its command."""
    with contextlib.ExitStack() as stack:

        def ask(*options: str) -> None:
            file = tmp_path / "variables"
            argv = ["salloc", *options, "sh", "-c", f"env --null > {file}.part; mv {file}.part {file}; cat"]
            salloc = subprocess.Popen(
                login_shell.command(argv), env=login_shell.environ, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            stack.callback(salloc.communicate)
            login_shell.wait_for(file.exists, "the allocation")
            for name, _, value in (line.partition("=") for line in file.read_text().split("\0")):
                if name.startswith("SLURM_"):
                    monkeypatch.setenv(name, value)

        yield ask


def gpus_of_hosts() -> list[tuple[str, str | None]]:
    """Return the name of each host of the allocation, and which GPUs a function sees there."""
    engine = allocation.engine(KEYS)
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(contextlib.closing(connect(engine.transport(name)))) for name in engine.places()]
        assert [host.fate for host in hosts if not is_there(host)] == []
        calls = [start(host, os.getenv, "CUDA_VISIBLE_DEVICES") for host in hosts]
        for host, call in zip(hosts, calls, strict=True):
            await_end(host, call)
        return [(host.name, value_of(call)) for host, call in zip(hosts, calls, strict=True)]


def value_of(call: Process) -> str | None:
    outcome = call.outcome()
    assert outcome is not None
    assert outcome.value is None or isinstance(outcome.value, str)
    return outcome.value


def test_each_node_is_a_host_with_all_gpus_of_the_job_whatever_the_job_has_set(
    allocate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate("--nodes=2", "--ntasks-per-node=2", "--gpus-per-task=1")
    traps = {"LABELIO": "1", "EXPORT_ENV": "NONE", "STDINMODE": "none", "MPI_TYPE": "pmix", "EXCLUSIVE": "1"}
    for name, value in (traps | {"UNBUFFEREDIO": "1", "PROLOG": "/bin/false", "GPUS_PER_TASK": "1"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert gpus_of_hosts() == [("h1", "0,1"), ("h2", "0,1")]


def test_components_of_a_heterogeneous_job_are_hosts(allocate: Callable[..., None]) -> None:
    allocate("--nodelist=h2", "--gpus-per-node=1", ":", "--nodelist=h1")
    assert gpus_of_hosts() == [("h2", "0"), ("h1", None)]


def test_steps_of_the_users_run_beside_the_hosts(allocate: Callable[..., None], login_shell: Cluster) -> None:
    allocate("--nodes=1", "--nodelist=h1", "--exclusive")
    engine = allocation.engine(KEYS)
    with contextlib.closing(connect(engine.transport("h1"))) as host:
        assert is_there(host), host.fate
        job = {"SLURM_JOB_ID": os.environ["SLURM_JOB_ID"]}
        assert login_shell.run("srun", "--ntasks=1", "hostname", **job) == "h1\n"
        with contextlib.closing(connect(engine.transport("h1"))) as again:
            assert is_there(again), again.fate


@pytest.mark.usefixtures("login_shell")
def test_an_allocation_that_has_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "99999")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "h1")
    with pytest.raises(ConfigError, match="the allocation 99999 may have ended; ask for a new one"):
        allocation.engine(KEYS)
