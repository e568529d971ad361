"""Hosts by Ray: host processes behind real actors, what becomes of them when something dies, and what is said then."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from elastic_hydra import timeouts
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts import ray as ray_hosts
from elastic_hydra.hosts.connection import HostConnection, State
from elastic_hydra.journal.events import HostLost, JobEnded
from elastic_hydra.journal.lines import Lines
from elastic_hydra.supervisor.process import Process
from elastic_hydra.supervisor.waiting import poll, wait
from tests.helpers.apps import STAYS, App
from tests.helpers.launching import wait_until_gone
from tests.helpers.ray_cluster import PATIENCE, TOO_SLOW, RayCluster, ray_cluster
from tests.hosts.hosts import Record, await_end, connect, is_there, start

pytest.importorskip("ray", reason="hosts by Ray: pip install 'ray>=2.60'")
pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster, pytest.MonkeyPatch.context() as patch:
        cluster.add_node("--num-cpus=2", "--num-gpus=2")
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


def engine(**keys: Any) -> ray_hosts.RayEngine:
    return ray_hosts.engine(HostsConfig(engine="ray", max=2, **keys))


def facts() -> dict[str, object]:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTHONBREAKPOINT")
    return {
        **{name: os.environ.get(name) for name in names},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "ancestors": [process.name() for process in psutil.Process().parents()],
    }


def value_of(process: Process) -> Any:
    outcome = process.outcome()
    assert outcome is not None
    return outcome.value


def work(folder: str) -> None:
    """Run until SIGTERM comes, and say both."""

    def end(*_: object) -> None:
        Path(folder, "terminated").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    Path(folder, "working").write_text(str(os.getpid()))
    while True:
        signal.pause()


def at_work(connection: HostConnection, folder: Path) -> Process:
    process = start(connection, work, str(folder))
    assert wait([connection], (folder / "working").exists, PATIENCE)
    return process


def tree_of(connection: HostConnection) -> list[int]:
    """Return the ids of all processes of a host."""
    assert connection.hello is not None
    host = psutil.Process(connection.hello.pid)
    return [host.pid, *(child.pid for child in host.children(recursive=True))]


def await_state(connection: HostConnection, state: State) -> None:
    assert wait([connection], lambda: connection.state is state, PATIENCE), connection.state


def test_a_host_has_what_ray_has_given_to_its_actor(cluster: RayCluster) -> None:
    record = Record()
    by_ray = engine()
    assert by_ray.places() == ("actor 1", "actor 2")
    connection = connect(by_ray.transport("actor 1"), record)
    assert connection.name == "Ray actor 1"
    assert is_there(connection), connection.fate
    process = start(connection, facts)
    await_end(connection, process)
    found = value_of(process)
    pids = tree_of(connection)
    connection.close()
    assert wait_until_gone(pids, PATIENCE) == []

    assert found["CUDA_VISIBLE_DEVICES"] == "0,1", "the largest node of the cluster has two"
    assert found["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS")
    assert found["PYTHONBREAKPOINT"] is None
    assert found["blocked"] == []
    assert not any("ray" in name for name in found["ancestors"]), "Ray kills the children of its workers"


def test_an_actor_that_is_killed(cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    by_ray = engine()
    with contextlib.closing(connect(by_ray.transport("actor 1"))) as connection:
        assert is_there(connection), connection.fate
        process = at_work(connection, tmp_path)
        pids = tree_of(connection)
        cluster.actor().kill()
        await_end(connection, process)
        assert (tmp_path / "terminated").exists()
        assert "was lost: its stream has ended without a farewell" in process.fate
        assert "The actor is dead because its worker process has died" in process.fate
        assert "common causes" not in process.fate
        assert "actor_id" not in process.fate
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_host_waits_for_a_node_and_is_lost_with_it(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "HOST_MARGIN", 3.0)
    by_ray = engine(gpus_per_host=0, cpus_per_host=1, resources={"place": 1})
    transport = by_ray.transport("actor 2")
    with transport.open():
        poll([(transport.fileno(), select.POLLIN)], PATIENCE)
        assert transport.lines() == [
            "no node of the Ray cluster has {CPU: 1, place: 1}: this host waits until there is one"
        ]
        assert transport.ended() is None
        transport.kill()
    with contextlib.closing(connect(by_ray.transport("actor 1"))) as connection:
        raylet = cluster.add_node("--num-cpus=1", '--resources={"place": 1}')
        assert is_there(connection), connection.fate
        process = at_work(connection, tmp_path)
        pids = tree_of(connection)
        os.kill(raylet, signal.SIGKILL)
        await_end(connection, process)
        assert (tmp_path / "terminated").exists()
        assert "was lost: its stream has ended without a farewell" in process.fate
    assert wait_until_gone(pids, PATIENCE) == []


def test_a_sweep_goes_on_when_an_actor_is_killed(cluster: RayCluster, tmp_path: Path) -> None:
    hosts = ["hydra/launcher/hosts=ray", "hydra.launcher.hosts.max=1", "hydra.launcher.nproc_per_node=1"]
    hosts += ["hydra/launcher/retry=preemptible", "hydra/launcher/logs=all", "hydra.launcher.shutdown_timeout=1"]
    with App(tmp_path, STAYS).started(*hosts, "+x=1,2") as running:
        running.wait_for("waits for ever")
        cluster.actor().kill()
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    journal = [event for _, event in Lines(finished.folder / "journal.jsonl")]
    assert {event.num: event.value for event in journal if isinstance(event, JobEnded)} == {0: 10, 1: 20}
    (lost,) = (event for event in journal if isinstance(event, HostLost))
    assert "The actor is dead because its worker process has died" in lost.reason


def test_a_driver_that_is_killed(cluster: RayCluster, tmp_path: Path) -> None:
    by_ray = engine()
    with contextlib.closing(connect(by_ray.transport("actor 1"))) as connection:
        assert is_there(connection), connection.fate
        at_work(connection, tmp_path)
        pids = tree_of(connection)
        (driver,) = psutil.Process().children()
        driver.kill()
        await_state(connection, State.doubtful)
        assert wait_until_gone(pids, PATIENCE) == []
        assert (tmp_path / "terminated").exists()
    with contextlib.closing(connect(by_ray.transport("actor 1"))) as connection:
        assert is_there(connection), "a new driver serves further hosts"


def launch(folder: str) -> None:
    """Be a launcher that waits for ever."""
    connection = connect(engine().transport("actor 1"))
    assert is_there(connection), connection.fate
    at_work(connection, Path(folder))
    Path(folder, "pids").write_text(" ".join(map(str, tree_of(connection))))
    wait([connection], lambda: False)


def test_a_launcher_that_is_killed(cluster: RayCluster, tmp_path: Path) -> None:
    code = f"from {__name__} import launch; launch({str(tmp_path)!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as launcher:
        while not (tmp_path / "pids").exists():
            assert launcher.poll() is None
            time.sleep(0.05)
        pids = [child.pid for child in psutil.Process(launcher.pid).children(recursive=True)]
        pids += map(int, (tmp_path / "pids").read_text().split())
        launcher.kill()
    assert wait_until_gone(pids, PATIENCE) == []
    assert (tmp_path / "terminated").exists()


def test_a_cluster_that_ends_with_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tempfile.mkdtemp(prefix="eh", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    try:
        by_ray = engine(address="local", gpus_per_host=0, cpus_per_host=1)
        connection = connect(by_ray.transport("actor 1"))
        if not is_there(connection) and TOO_SLOW in connection.fate:
            pytest.skip("Ray gives a node 30 seconds to start, and this machine is too busy for that")
        assert connection.state is State.ready, connection.fate
        process = start(connection, facts)
        await_end(connection, process)
        assert value_of(process)["CUDA_VISIBLE_DEVICES"] == "", "it is to have no GPU"
        connection.close()
        pids = [child.pid for child in psutil.Process().children(recursive=True)]
        assert "raylet" in {psutil.Process(pid).name() for pid in pids}
        del by_ray, connection
        gc.collect()
        assert wait_until_gone(pids, PATIENCE) == []
    finally:
        shutil.rmtree(folder)


def failure(by_ray: ray_hosts.RayEngine) -> str:
    """Return why a host does not come."""
    with contextlib.closing(connect(by_ray.transport("actor 1"))) as connection:
        assert not is_there(connection)
        return connection.fate


def test_no_cluster_answers(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"127.0.0.1:{server.getsockname()[1]}"
    said = failure(engine(address=dead))
    assert f"hydra.launcher.hosts.address={dead}: no Ray cluster answers at" in said
    assert "start a cluster by `ray start --head`, set hydra.launcher.hosts.address to" in said
    monkeypatch.setenv("RAY_ADDRESS", dead)
    assert "(from RAY_ADDRESS)" in failure(engine())


def test_a_cluster_that_wants_a_token(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE")
    said = failure(engine(address=cluster.environment["RAY_ADDRESS"]))
    assert "the Ray cluster cannot be joined" in said
    assert "set RAY_AUTH_MODE=token" in said


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_hosts, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"hosts.engine=ray: Ray is not installed here: pip install 'ray>=2.60'"):
        engine()


def test_how_many_hosts_there_may_be_must_be_said() -> None:
    with pytest.raises(ConfigError, match=r"hosts.max=null: .* set how many"):
        ray_hosts.engine(HostsConfig(engine="ray"))
