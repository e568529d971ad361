"""Hosts that are Slurm jobs of their own: asked for, waited for, told, taken away, let go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import slurm
from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.slurm import SlurmEngine
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import wait
from tests.helpers.launching import wait_until_gone
from tests.helpers.slurm import Cluster, needs_slurm
from tests.hosts.hosts import PATIENCE, Record, await_end, connect, is_there, start

pytestmark = needs_slurm


def engine(**keys: object) -> SlurmEngine:
    return slurm.engine(HostsConfig(engine="slurm", **keys))  # type: ignore[arg-type]


def hosted(record: Record | None = None, silence: float = 60.0, **keys: Any) -> HostConnection:
    return connect(engine(**keys).transport("job 1"), record, silence=silence)


def there(connection: HostConnection) -> HostConnection:
    assert is_there(connection), connection.fate
    return connection


def running(connection: HostConnection) -> Process:
    """Start a process that waits for ever, and wait until it runs."""
    process = start(connection, signal.pause)
    wait_for(connection, lambda: process.pid is not None)
    return process


def wait_for(connection: HostConnection, done: Callable[[], bool]) -> None:
    assert wait([connection], done, PATIENCE)


def facts() -> list[str | None]:
    names = ("CUDA_VISIBLE_DEVICES", "ADDED", "SLURM_PROCID")
    return [os.uname().nodename, *map(os.environ.get, names)]


def queue(cluster: Cluster) -> list[list[str]]:
    return [line.split() for line in cluster.run("squeue", "--noheader", "--format=%A %T %j").splitlines()]


def job_of(cluster: Cluster) -> str:
    (job,) = queue(cluster)
    return job[0]


def test_a_host_has_what_was_asked_for_and_what_setup_exports(
    login_shell: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_LABELIO": "1", "SLURM_STDINMODE": "none", "CUDA_VISIBLE_DEVICES": "7"}.items():
        monkeypatch.setenv(name, value)
    setup = ["echo a line for people", "cat", "export ADDED=by-setup"]
    with contextlib.closing(hosted(gpus_per_node=1, setup=setup, mem_gb=0.5)) as host:
        call = start(there(host), facts)
        await_end(host, call)
        outcome = call.outcome()
        assert outcome is not None
        assert outcome.value == [host.name, "0", "by-setup", None]
    login_shell.wait_for(lambda: not queue(login_shell), "the end of the job that is let go")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"partition": "none-such"}, "partition=none-such: there is no such partition"),
        ({"cpus_per_task": 1000}, "No node that can be used now is as large as"),
        ({"gpus_per_node": 9}, "No node that can be used now is as large as"),
        ({"constraint": "moon"}, "constraint=moon: no node has that feature"),
        ({"gres": "tpu:1"}, "gres=tpu:1: no node has that"),
        ({"additional_parameters": {"no-such-option": 1}}, "Correct hydra.launcher.hosts.additional_parameters"),
    ],
    ids=str,
)
def test_what_slurm_can_never_give_is_refused_before_anything_starts(
    login_shell: Cluster, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        engine(**changed)
    assert message in str(refused.value)
    assert queue(login_shell) == []


def test_a_host_that_waits_in_the_queue_comes_when_there_is_room(login_shell: Cluster) -> None:
    whole: dict[str, Any] = {"additional_parameters": {"exclusive": True, "nodelist": "h1"}}
    with contextlib.closing(hosted(**whole)) as first:
        there(first)  # only then is the next one asked for: two sruns at once reach Slurm in any order
        with contextlib.closing(hosted(**whole)) as second:
            login_shell.wait_for(lambda: {job[1] for job in queue(login_shell)} == {"RUNNING", "PENDING"}, "both jobs")
            assert second.state is State.coming
            first.close()
            there(second)


def test_a_host_that_still_waits_is_not_asked_for_any_more_when_it_is_closed(login_shell: Cluster) -> None:
    with contextlib.closing(hosted(additional_parameters={"begin": "now+3600"})) as host:
        login_shell.wait_for(lambda: queue(login_shell), "a job in the queue")
        assert host.state is State.coming
    login_shell.wait_for(lambda: not queue(login_shell), "an empty queue")


def test_a_host_that_still_waits_leaves_the_queue_when_its_launcher_is_killed(login_shell: Cluster) -> None:
    code = (
        f"from {__name__} import hosted; from {wait.__module__} import wait; "
        "wait([hosted(additional_parameters={'begin': 'now+3600'})], lambda: False)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root) as launcher:
        login_shell.wait_for(lambda: queue(login_shell), "a job in the queue")
        launcher.kill()
    login_shell.wait_for(lambda: not queue(login_shell), "an empty queue")


def test_a_job_that_is_cancelled_is_told_like_all_that_runs_there(login_shell: Cluster) -> None:
    record = Record()
    with contextlib.closing(hosted(record)) as host:
        process = running(there(host))
        login_shell.run("scancel", job_of(login_shell))
        wait_for(host, lambda: signal.SIGTERM in record.told)
        wait_for(host, lambda: process.exitcode is not None)
        assert process.exitcode == -signal.SIGTERM
        host.close()
        assert host.fate == f"host {host.name} has ended: the launcher needs it no more"


def test_a_host_is_told_of_preemption(login_shell: Cluster) -> None:
    record = Record()
    with contextlib.closing(hosted(record, partition="graceful", additional_parameters={"nodelist": "h1"})) as host:
        there(host)
        option = ["--partition=high", "--nodelist=h1", "--exclusive", "--time=1"]
        high = subprocess.Popen(login_shell.command(["srun", *option, "true"]), env=login_shell.environ)
        try:
            wait_for(host, lambda: signal.SIGTERM in record.told)
            host.close()
            assert high.wait(PATIENCE) == 0, "the room is given as soon as the host has gone"
        finally:
            high.kill()
            high.wait()


def test_a_host_process_that_is_killed_is_lost_as_soon_as_slurm_says_so(login_shell: Cluster) -> None:
    with contextlib.closing(hosted()) as host:
        process = running(there(host))
        assert host.hello is not None
        os.kill(host.hello.pid, signal.SIGKILL)
        wait_for(host, lambda: process.exitcode is not None)
        assert process.fate is not None
        assert "task 0: Killed" in process.fate


def test_the_job_of_an_srun_that_was_killed_outright_is_cancelled(login_shell: Cluster) -> None:
    name = f"killed.{os.getpid()}"
    with contextlib.closing(hosted(name=name, silence=20.0)) as host:
        process = running(there(host))
        job = job_of(login_shell)
        processes = list(psutil.process_iter(["cmdline"]))
        sruns = [each for each in processes if f"--job-name={name}" in " ".join(each.info["cmdline"] or [])]
        assert sruns
        for each in sruns:  # srun, and the one beside it that would tell Slurm
            each.kill()
        wait_for(host, lambda: host.state is State.ended)
        assert process.pid is not None
        assert wait_until_gone([process.pid], PATIENCE) == []
        login_shell.wait_for(lambda: not queue(login_shell), f"the end of job {job}")


def test_a_python_that_is_not_there_is_named(login_shell: Cluster) -> None:
    with contextlib.closing(hosted(python="/no/python")) as host:
        assert not is_there(host)
        assert "job 1 has no /no/python: set hydra.launcher.hosts.python" in host.fate
