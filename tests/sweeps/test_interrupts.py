"""Sweeps that are told to stop, or die, in the middle of a job: nobody stays behind, and nothing else starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.apps import App, Finished, Running, interrupted

pytestmark = pytest.mark.system

BODY = """
    import subprocess

    # What workers leave running: a child, and one that has gone into a session of its own.
    for new_session in (False, True):
        subprocess.Popen(["sleep", "600"], start_new_session=new_session)
    if cfg.stubborn:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    else:
        def leave(number, frame):
            (Path(HydraConfig.get().runtime.output_dir) / f"left.{os.environ['RANK']}").touch()
            sys.exit(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, leave)
    print("ready:", os.environ["RANK"])
    while True:
        time.sleep(600)
"""

ALL = ["hydra.launcher.nproc_per_node=2", "hydra/launcher/logs=all", "+x=1,2,3"]


@contextmanager
def sweep_in_its_first_job(folder: Path, *overrides: str, stubborn: bool = False) -> Iterator[Running]:
    with App(folder, BODY).started(*ALL, f"+stubborn={stubborn}", *overrides) as running:
        running.wait_for("ready: 0", "ready: 1")
        yield running


def assert_stopped_in_order(finished: Finished) -> None:
    """Only the first job has run, and every callback for what was begun has been called."""
    assert not (finished.folder / "1").exists()
    assert finished.calls("job_start") == [["0"]]
    assert [call[:2] for call in finished.calls("job_end")] == [["0", "FAILED"]]
    assert len(finished.calls("multirun_end")) == 1


@pytest.mark.parametrize(
    ("number", "start_method"),
    [
        (signal.SIGINT, "warm"),
        (signal.SIGTERM, "warm"),
        (signal.SIGHUP, "warm"),
        (signal.SIGUSR1, "warm"),
        (signal.SIGINT, "spawn"),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value,
)
def test_a_signal_to_the_launcher_stops_the_sweep(tmp_path: Path, number: signal.Signals, start_method: str) -> None:
    with sweep_in_its_first_job(tmp_path, f"hydra.launcher.start_method={start_method}") as running:
        running.signal(number)
        finished = running.finish()
        assert running.survivors() == []
    assert_stopped_in_order(finished)
    if number == signal.SIGINT:
        assert interrupted(finished.returncode), finished.output
    else:
        assert finished.returncode == 128 + number, finished.output
    # The workers were asked first.
    assert {path.name for path in (finished.folder / "0").glob("left.*")} == {"left.0", "left.1"}


def test_workers_that_do_not_want_to_leave_are_killed_after_the_shutdown_timeout(tmp_path: Path) -> None:
    with sweep_in_its_first_job(tmp_path, "hydra.launcher.shutdown_timeout=1", stubborn=True) as running:
        running.signal(signal.SIGINT)
        finished = running.finish()
        assert running.survivors() == []
    assert_stopped_in_order(finished)
    assert interrupted(finished.returncode), finished.output


@pytest.mark.smoke
def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    with sweep_in_its_first_job(tmp_path, "hydra.launcher.shutdown_timeout=600", stubborn=True) as running:
        running.signal(signal.SIGINT)
        running.wait_for("a second Ctrl-C kills")
        running.signal(signal.SIGINT)
        finished = running.finish()
        assert running.survivors() == []
    assert interrupted(finished.returncode), finished.output
    assert not (finished.folder / "1").exists()
    assert len(finished.calls("multirun_end")) == 1


@pytest.mark.parametrize("start_method", ["warm", "forkserver", "spawn"])
@pytest.mark.parametrize("stubborn", [False, True], ids=["", "workers that ignore signals"])
def test_nobody_outlives_a_launcher_that_is_killed(tmp_path: Path, start_method: str, stubborn: bool) -> None:
    overrides = [f"hydra.launcher.start_method={start_method}", "hydra.launcher.shutdown_timeout=1"]
    with sweep_in_its_first_job(tmp_path, *overrides, stubborn=stubborn) as running:
        assert len(running.processes()) >= 7  # launcher, server, agent, two workers, their children
        running.signal(signal.SIGKILL)
        assert running.wait_for_launcher() == -signal.SIGKILL
        assert running.survivors(within=30.0) == []
        finished = running.finish()
    assert not (finished.folder / "1").exists()


@pytest.mark.smoke
def test_a_signal_between_two_jobs_or_while_one_starts_leaves_nobody(tmp_path: Path) -> None:
    """Many short jobs, so that the signal meets the launcher anywhere."""
    app = App(tmp_path, "print('job', HydraConfig.get().job.num)")
    with app.started("+x=range(0,25)", "hydra.launcher.nproc_per_node=2") as running:
        running.wait_for("job 3")
        running.signal(signal.SIGINT)
        finished = running.finish()
        assert running.survivors() == []
    assert interrupted(finished.returncode), finished.output
    assert len(finished.calls("job_start")) < 25
    assert len(finished.calls("multirun_end")) == 1


def test_what_finished_jobs_leave_running_does_not_outlive_the_sweep(tmp_path: Path) -> None:
    app = App(tmp_path, 'subprocess.Popen(["sleep", "600"], start_new_session=True)')
    finished = app.run("+x=1,2")  # sees that nothing is left
    assert finished.returncode == 0, finished.output
