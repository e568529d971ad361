"""Launchers that meet in a real etcd."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.nodes.conftest import free_port
from tests.nodes.hosts import Host, Program
from tests.nodes.test_nodes_elastic import is_gone, launch, stop_training, trains
from tests.nodes.test_nodes_sweep import JOBS, check_jobs

pytestmark = pytest.mark.system

Start = Callable[..., Program]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An etcd server on this machine; its endpoint."""
    if shutil.which("etcd") is None:
        pytest.skip("etcd is not installed: apt-get install etcd-server")
    if importlib.util.find_spec("etcd") is None:
        pytest.skip("etcd's client is not installed: pip install python-etcd")
    folder = tmp_path_factory.mktemp("etcd")
    port = free_port()
    urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"]
    command = ["etcd", "--enable-v2", "--data-dir", str(folder / "data"), "--initial-cluster", f"default={urls[1]}"]
    for option, url in (("client", urls[0]), ("peer", urls[1])):
        command += [f"--listen-{option}-urls", url]
    command += ["--advertise-client-urls", urls[0], "--initial-advertise-peer-urls", urls[1]]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
        server.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("backend", ["etcd-v2", pytest.param("etcd", marks=pytest.mark.slow)])
def test_sweep(here: list[Host], start: Start, etcd: str, backend: str) -> None:
    choice = (
        "hydra/launcher/rendezvous=etcd",
        f"hydra.launcher.rendezvous.id={backend}",
        f"hydra.launcher.rendezvous.backend={backend}",
    )
    nodes = [start(host, *JOBS, *choice, endpoint=etcd) for host in here]
    assert [node.wait(180) for node in nodes] == [1, 1], nodes[0].output()
    check_jobs(*nodes)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["etcd-v2", "etcd"])
def test_join_and_leave(here: list[Host], start: Start, etcd: str, backend: str) -> None:
    arguments = [etcd, "1:2", "script", f"backend={backend}", "last_call_timeout=2"]
    if backend == "etcd-v2":
        arguments += ["keep_alive_interval=1"]
    first = start(here[0], *arguments, make=launch)
    trains(first, 1, what=f"{backend}: a lone node starts")
    second = start(here[1], *arguments, make=launch)
    trains(second, 2, what=f"{backend}: joins")
    trains(first, 2)
    worker = second.events("training")[-1]["pid"]
    moment = second.kill_agent()
    trains(first, 1, moment, f"{backend}: goes on after an agent was killed")
    assert is_gone(worker)
    stop_training(first)
    assert first.wait() == 0, first.output()
