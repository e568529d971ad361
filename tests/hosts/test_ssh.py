"""Hosts by ssh: which there are, host processes behind a real server, and what is said when one cannot be reached."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import ssh
from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.hosts.ssh import SshTransport
from elastic_hydra.journal.events import HostLost, JobEnded
from elastic_hydra.journal.lines import Lines
from elastic_hydra.supervisor.waiting import wait
from tests.helpers.apps import STAYS, App
from tests.helpers.launching import wait_until_gone
from tests.helpers.sshd import Sshd
from tests.hosts.hosts import PATIENCE, await_end, connect, is_there, start


@pytest.fixture
def has_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/ssh")


def places(**keys: object) -> list[str]:
    return list(ssh.engine(HostsConfig(engine="ssh", **keys)).places())  # type: ignore[arg-type]


@pytest.mark.usefixtures("has_ssh")
def test_hosts_are_listed_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("# ours\nn1\n\n  me@n2  # the new one\nLAB\\me@n3\n")
    assert places(list=["n1", "n2"]) == ["n1", "n2"]
    assert places(list=str(file)) == ["n1", "me@n2", "LAB\\me@n3"]
    assert places(list=str(file), max=2) == ["n1", "me@n2"]


@pytest.mark.usefixtures("has_ssh")
@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["n1", "n1"], "list=[n1, n1]: n1 stands there 2 times; name each host once"),
        (["-oProxyCommand=evil"], "'-oProxyCommand=evil' is no name of a host"),
        (["n1 slots=2"], "'n1 slots=2' is no name of a host: write n1, or user@n1"),
        ("/no/such/file", "list=/no/such/file: cannot read that file (No such file or directory)"),
        ("/dev/null", "list=/dev/null: there is no host in it"),
    ],
)
def test_a_list_that_names_no_hosts_is_refused(listed: object, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        places(list=listed)
    assert message in str(refused.value)


def test_without_ssh_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match="there is no program ssh here; install OpenSSH's client"):
        places(list=["n1"])


SILENCE = 40.0
"""Seconds: a host is lost for certain only when they are over."""


def hosted(sshd: Sshd, place: str, python: str = "") -> HostConnection:
    keys = HostsConfig(engine="ssh", list=[place], python=python or None, ssh_options=list(sshd.options))
    return connect(ssh.engine(keys).transport(place), silence=SILENCE)


def wait_for(connection: HostConnection, done: Callable[[], bool]) -> None:
    assert wait([connection], done, PATIENCE)


@pytest.mark.system
def test_two_hosts_run_functions_behind_a_login_script_that_prints(sshd: Sshd) -> None:
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(contextlib.closing(hosted(sshd, place))) for place in ("n1", "n2")]
        for host in hosts:
            assert is_there(host), host.fate
        calls = [start(host, os.getpid) for host in hosts]
        for host, call in zip(hosts, calls, strict=True):
            await_end(host, call)
            outcome = call.outcome()
            assert outcome is not None
            assert outcome.value == call.pid
            assert host.environment["PATH"] == os.environ["PATH"], "jobs have the launcher's environment"


@pytest.mark.system
@pytest.mark.parametrize(
    ("place", "python", "message"),
    [
        ("closed", "", "closed has no ssh server at that port"),
        ("stranger", "", "connect once by hand and confirm it: ssh stranger true"),
        ("keyless", "", "keyless takes none of your keys"),
        ("no.such.host.invalid", "", "no.such.host.invalid"),
        ("n1", "/no/python", "n1 has no /no/python: set hydra.launcher.hosts.python to an interpreter"),
        ("n1", "/bin/false", "ssh n1 has not started a host process: it ended with exit code 1"),
    ],
)
def test_a_host_that_cannot_be_reached_says_what_to_do(sshd: Sshd, place: str, python: str, message: str) -> None:
    with contextlib.closing(hosted(sshd, place, python=python)) as host:
        assert not is_there(host)
        assert message in host.fate


@pytest.mark.system
@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_ssh_gives_up_a_login_but_no_connection_and_the_users_options_hold() -> None:
    argv = SshTransport("n1", options=["-oConnectTimeout=5"])._argv
    shown = subprocess.run(["ssh", "-G", "-F", os.devnull, *argv[1:]], capture_output=True, text=True, check=True)
    settings = dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)
    assert settings["serveraliveinterval"] == "0"
    assert settings["connecttimeout"] == "5"
    assert settings["batchmode"] == "yes"
    assert "-oConnectTimeout=30" in SshTransport("n1")._argv


@pytest.mark.system
def test_wrong_options_are_ours_to_correct(sshd: Sshd) -> None:
    way = ssh.SshTransport("n1", options=[*sshd.options, "-oNoSuchOption=1"])
    with contextlib.closing(connect(way)) as host:
        assert not is_there(host)
        assert "correct hydra.launcher.hosts.ssh_options" in host.fate


@pytest.mark.system
def test_a_host_whose_client_is_killed_ends_all_that_runs_there(sshd: Sshd) -> None:
    way = ssh.SshTransport("n1", options=sshd.options)
    with contextlib.closing(connect(way, silence=SILENCE)) as host:
        assert is_there(host), host.fate
        process = start(host, signal.pause)
        wait_for(host, lambda: process.pid is not None)
        way.kill()
        wait_for(host, lambda: host.state is State.ended)
        assert process.exitcode == -signal.SIGKILL
        assert process.fate is not None
        assert "was lost: its stream has ended without a farewell" in process.fate
        assert process.pid is not None
        assert wait_until_gone([process.pid], PATIENCE) == []


@pytest.mark.system
def test_a_host_process_that_is_killed_is_lost(sshd: Sshd) -> None:
    with contextlib.closing(hosted(sshd, "n1")) as host:
        assert is_there(host), host.fate
        process = start(host, signal.pause)
        wait_for(host, lambda: process.pid is not None)
        assert host.hello is not None
        os.kill(host.hello.pid, signal.SIGKILL)
        wait_for(host, lambda: process.exitcode is not None)
        assert process.pid is not None
        assert wait_until_gone([process.pid], 0.0) == [], "it is lost when nothing of it runs any more, not before"


@pytest.mark.system
def test_a_sweep_goes_on_when_one_of_its_hosts_is_killed(sshd: Sshd, tmp_path: Path) -> None:
    hosts = ["hydra/launcher/hosts=ssh", "hydra.launcher.hosts.list=[n1,n2]", f"hydra.launcher.hosts.silence={SILENCE}"]
    hosts += [f"hydra.launcher.hosts.ssh_options=[{','.join(sshd.options)}]", "hydra.launcher.nproc_per_node=1"]
    more = [
        "hydra/launcher/retry=preemptible",
        "hydra/launcher/logs=all",
        "hydra.launcher.shutdown_timeout=1",
        "+x=1,2,3",
    ]
    with App(tmp_path, STAYS).started(*hosts, *more) as running:
        running.wait_for("waits for ever, child of")
        pid = int(running.output.partition("child of ")[2].split()[0])
        host_process = psutil.Process(pid).parent()
        assert host_process is not None
        host_process.kill()
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    journal = [event for _, event in Lines(finished.folder / "journal.jsonl")]
    assert {event.num: event.value for event in journal if isinstance(event, JobEnded)} == {0: 10, 1: 20, 2: 30}
    (lost,) = (event for event in journal if isinstance(event, HostLost))
    assert "its stream has ended without a farewell" in lost.reason
