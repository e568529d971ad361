"""Limits of open files, processes and threads: what they stop is told with their name and value, and nothing hangs."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_hydra.elastic.tail import Tail
from elastic_hydra.elastic.worker_failure import WorkersFailedError
from elastic_hydra.supervisor import process_limits
from elastic_hydra.supervisor.channel import FilesLostError, receive, send
from elastic_hydra.supervisor.forked import ProcessSpec
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.protocol import Clean
from tests.helpers.launching import in_a_fork, launch, script

pytestmark = pytest.mark.system

NOBODY = 65534
"""A user whose processes are counted; root's are not."""


def limited_to(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def failure_with_few_files() -> str:
    limited_to(20)
    try:
        launch(os.getpid)
    except OSError as error:
        return str(error)
    return "it was launched"


def test_too_few_open_files_are_told_before_anything_starts() -> None:
    reason = in_a_fork(failure_with_few_files)
    assert "RLIMIT_NOFILE=20" in reason
    assert "ulimit -n" in reason


def open_too_many() -> None:
    limited_to(64)
    files = [open(os.devnull) for _ in range(100)]  # noqa: SIM115
    assert not files


@pytest.mark.smoke
def test_a_worker_that_opens_too_many_files_is_told_with_the_limit() -> None:
    with pytest.raises(WorkersFailedError) as caught:
        launch(open_too_many, workers=1)
    assert caught.value.verdict is not None
    assert "RLIMIT_NOFILE=64 " in str(caught.value.verdict.failure.reason), "the worker's own"


def receive_beyond_the_limit() -> str:
    ours, theirs = socket.socketpair()
    send(ours, Clean(), [0, 1])
    free = os.dup(0)
    os.close(free)
    limited_to(free + 1)  # room for one of the two
    try:
        receive(theirs)
    except FilesLostError as lost:
        kept = os.dup(0)  # it is free again
        return f"{process_limits.with_limit(str(lost))} {kept == free}"
    return "all came"


def test_files_that_cannot_be_received_are_missed_and_not_taken_for_others() -> None:
    said = in_a_fork(receive_beyond_the_limit)
    assert said.startswith("[Errno 24] Too many open files (RLIMIT_NOFILE=")
    assert said.endswith("True")


def test_a_start_that_the_server_has_no_files_for_is_refused_with_the_limit() -> None:
    with open_server("warm", {}, 5.0) as server:
        assert server.process is not None
        pid = server.process.pid
        server.clean()  # its answer shows that it has opened all that it needs
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, 1 << 10))
        process = server.start(ProcessSpec(None, dict(os.environ), os.getcwd()), (os.getpid, ()))
        assert server.wait(lambda: process.exitcode is not None, 30.0)
        assert f"RLIMIT_NOFILE={used + 1}" in process.refused


def test_a_thread_that_cannot_be_started_is_the_error_and_not_that_nobody_can_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    tail = Tail({0: str(tmp_path / "log")}, sys.stdout, {})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            tail.start()
    tail.stop()
    assert "RLIMIT_NPROC=" in process_limits.with_limit("can't start new thread")


FORK = """
import os, resource, sys
from elastic_hydra.supervisor.open_server import open_server
from elastic_hydra.supervisor.client import ServerLost
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    open_server("warm", {}, 5.0)
except ServerLost as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user, whom it may become, with no other processes")
def test_a_server_that_cannot_be_forked_is_told_with_the_limit() -> None:
    become = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
    run = subprocess.run(
        [sys.executable, "-c", become + "import sys; exec(sys.stdin.read())"],
        input=FORK,
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    if "Permission denied" in run.stderr or "No module" in run.stderr:
        pytest.skip("another user cannot read this installation")
    assert "no warm server could be started" in run.stdout, run.stderr
    assert "RLIMIT_NPROC=1" in run.stdout


GLOO = """
    import os, sys, torch
    from elastic_hydra import LaunchConfig, elastic_launch

    def work():
        torch.distributed.init_process_group("gloo")
        torch.distributed.all_reduce(torch.ones(1))

    if __name__ == "__main__":
        with open(sys.argv[1] + "/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        try:
            elastic_launch(LaunchConfig(1, 1, 2, max_restarts=0, start_method="warm"), work)()
        except Exception as error:
            verdict = getattr(error, "verdict", None)
            print(verdict.failure.reason if verdict else error)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    top = next((top for top in map(Path, ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")) if top.is_dir()), Path("/"))
    group = top / f"elastic-hydra-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        if not (group / "pids.max").exists():
            pytest.skip("there is no control group that limits processes")
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize("most", [5, 8])
def test_a_group_of_too_few_processes_and_threads_is_told_and_nothing_hangs(
    most: int, group: Path, tmp_path: Path
) -> None:
    (group / "pids.max").write_text(str(most))
    with script(tmp_path, GLOO, str(group), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") as started:
        output = started.output()
    # torch's C++ code may give up where it cannot make a thread.
    assert f"pids.max={most}" in output or "SIGABRT" in output, started.stderr
