"""Whatever is killed, nothing stays behind, and nothing takes longer than the shutdown timeout."""

from __future__ import annotations

import io
import logging
import os
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from elastic_hydra.elastic.tail import Tail
from tests.helpers.launching import Script, launch, launch_failing, script, wait_until_gone

pytestmark = pytest.mark.system

SOURCE = """
    import os, signal, subprocess, sys
    from elastic_hydra import LaunchConfig, elastic_launch

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    def work(stubborn):
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        children = [subprocess.Popen(["sleep", "1000"], start_new_session=own) for own in (False, True)]
        say(os.getpid(), *(child.pid for child in children))
        while True:
            signal.pause()

    if __name__ == "__main__":
        entrypoint, start_method, timeout, max_restarts = sys.argv[1], *sys.argv[2:4], int(sys.argv[4])
        config = LaunchConfig(
            1, 1, 2, start_method=start_method, max_restarts=max_restarts, shutdown_timeout=int(timeout)
        )
        try:
            if entrypoint == "program":
                elastic_launch(config, "/bin/sh")(
                    "-c", "sleep 1000 & a=$$!; setsid sleep 1000 & echo $$$$ $$a $$!; wait; while :; do sleep 1; done"
                )
            else:
                elastic_launch(config, work)(entrypoint == "stubborn")
        except Exception as error:
            say(type(error).__name__, getattr(error, "sigval", ""))
            sys.exit(5)
"""
PIDS = 6


def running(
    folder: Path, entrypoint: str = "function", start_method: str = "warm", timeout: int = 2, restarts: int = 0
) -> AbstractContextManager[Script]:
    return script(folder, SOURCE, entrypoint, start_method, str(timeout), str(restarts))


def assert_gone(pids: list[int], timeout: float = 20.0) -> None:
    left = wait_until_gone(pids, timeout)
    names = [" ".join(psutil.Process(pid).cmdline()) for pid in left]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not names


# --- signals to the agent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entrypoint", ["function", "program"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_agent_ends_everything(number: signal.Signals, entrypoint: str, tmp_path: Path) -> None:
    with running(tmp_path, entrypoint) as started:
        pids = [*started.pids(PIDS), started.server_pid]
        os.kill(started.process.pid, number)
        assert started.output().split() == ["SignalException", str(int(number))]
        assert started.process.returncode == 5
        assert wait_until_gone(pids, 0.0) == []


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_signal_ends_every_start_method(start_method: str, tmp_path: Path) -> None:
    with running(tmp_path, start_method=start_method) as started:
        pids = [*started.pids(PIDS), started.server_pid]
        os.kill(started.process.pid, signal.SIGTERM)
        assert started.output().split()[0] == "SignalException"
        assert wait_until_gone(pids, 0.0) == []


def test_workers_that_ignore_the_signal_are_killed_after_the_timeout(tmp_path: Path) -> None:
    with running(tmp_path, "stubborn", timeout=1) as started:
        pids = started.pids(PIDS)
        start = time.monotonic()
        os.kill(started.process.pid, signal.SIGTERM)
        assert started.output().split()[0] == "SignalException"
        assert time.monotonic() - start >= 1
        assert wait_until_gone(pids, 0.0) == []


def writes_its_signals_down(folder: str) -> None:
    got: list[str] = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, _: got.append(signal.Signals(number).name))
    with open(os.path.join(folder, "ready"), "w"):
        pass
    while not got:
        time.sleep(0.01)
    Path(folder, "got").write_text(" ".join(got))


def test_a_signal_that_comes_while_workers_are_started_reaches_them_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "ready")

    told: list[Tail] = []

    def told_to_stop(tail: Tail) -> None:  # the last that happens in the start of a group
        if not told:
            with open(tmp_path / "ready"):
                pass
            os.kill(os.getpid(), signal.SIGUSR1)
        told.append(tail)

    monkeypatch.setattr(Tail, "start", told_to_stop)
    with pytest.raises(SignalException):
        launch(writes_its_signals_down, str(tmp_path), workers=1, signals_to_handle="SIGUSR1")
    assert (tmp_path / "got").read_text() == "SIGUSR1"


def saves_when_told(folder: str, launcher: int) -> None:
    """Rank 0 fails; rank 1 is stopped for the restart, and takes its time while the launcher is told to stop."""
    if os.environ["RANK"] == "0":
        while not Path(folder, "ready").exists():
            time.sleep(0.01)
        raise ValueError("what the group is restarted for")
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    Path(folder, "ready").touch()
    while not asked:
        time.sleep(0.01)
    os.kill(launcher, signal.SIGTERM)
    while len(asked) < 2:
        time.sleep(0.01)
    Path(folder, "saved").touch()


def test_a_first_signal_while_workers_are_stopped_for_a_restart_leaves_them_their_time(tmp_path: Path) -> None:
    with pytest.raises(SignalException):
        launch(saves_when_told, str(tmp_path), os.getpid(), max_restarts=1)
    assert (tmp_path / "saved").exists()


class Interrupting(io.StringIO):
    """A log during which a signal comes."""

    def write(self, text: str) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return super().write(text)


def raises() -> None:
    raise ValueError("no")


def test_a_signal_that_comes_while_the_agent_logs_is_heard() -> None:
    handler = logging.StreamHandler(Interrupting())
    agent = logging.getLogger("elastic_hydra.agent")
    agent.addHandler(handler)
    try:
        with pytest.raises(SignalException):
            launch(raises, signals_to_handle="SIGUSR1")
    finally:
        agent.removeHandler(handler)


# --- SIGKILL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entrypoint", "start_method"),
    [
        ("function", "warm"),
        ("function", "forkserver"),
        ("function", "spawn"),
        ("program", "warm"),
        ("stubborn", "warm"),
    ],
)
def test_nothing_outlives_a_killed_agent(entrypoint: str, start_method: str, tmp_path: Path) -> None:
    with running(tmp_path, entrypoint, start_method) as started:
        pids = [*started.pids(PIDS), started.server_pid]
        started.process.kill()
        assert_gone(pids)


@pytest.mark.parametrize(
    ("entrypoint", "start_method", "restarts"),
    [
        ("function", "warm", 0),
        ("function", "warm", 1),
        ("function", "spawn", 0),
        ("program", "warm", 0),
        ("stubborn", "warm", 0),
    ],
)
def test_nothing_outlives_a_killed_server(entrypoint: str, start_method: str, restarts: int, tmp_path: Path) -> None:
    with running(tmp_path, entrypoint, start_method, restarts=restarts) as started:
        pids = started.pids(PIDS)
        os.kill(started.server_pid, signal.SIGKILL)
        assert started.output().split()[0] in {"WorkersFailedError", "ServerLost"}
        assert_gone(pids)


def test_nothing_outlives_a_killed_worker(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        pids = started.pids(PIDS)
        os.kill(pids[0], signal.SIGKILL)
        assert started.output().split()[0] == "WorkersFailedError"
        assert wait_until_gone(pids, 0.0) == []


def test_everything_killed_at_once_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        pids = started.pids(PIDS)
        os.kill(started.server_pid, signal.SIGSTOP)  # so that it cannot do anything when the agent dies
        started_server = started.server_pid
        started.process.kill()
        started.process.wait()
        os.kill(started_server, signal.SIGCONT)
        assert_gone([*pids, started_server])


# --- the shutdown timeout ------------------------------------------------------------------------------------------


def rank_0_does_not_listen(folder: str) -> int:
    """Rank 1 fails as soon as rank 0 ignores the signal that will ask it to end; a restarted group succeeds."""
    ready, restarts = os.path.join(folder, "ready"), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if restarts:
        return restarts
    if os.environ["RANK"] == "0":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(ready, "w"):
            pass
        while True:
            signal.pause()
    with open(ready):
        pass
    raise RuntimeError("rank 1 gives up")


@pytest.mark.parametrize("start_method", ["warm", "spawn"])
def test_the_timeout_holds_when_a_worker_fails(start_method: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    start = time.monotonic()
    error = launch_failing(rank_0_does_not_listen, str(tmp_path), shutdown_timeout=1, start_method=start_method)
    assert time.monotonic() - start >= 1
    assert list(error.failures) == [1], "rank 0 was killed by the agent: it has not failed"


def test_the_timeout_holds_when_a_group_is_restarted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    start = time.monotonic()
    assert launch(rank_0_does_not_listen, str(tmp_path), shutdown_timeout=1, max_restarts=1) == {0: 1, 1: 1}
    assert time.monotonic() - start >= 1


def test_zero_seconds_mean_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    start = time.monotonic()
    launch_failing(rank_0_does_not_listen, str(tmp_path), shutdown_timeout=0)
    assert time.monotonic() - start < 30, "the default, which 0 must not stand for"
