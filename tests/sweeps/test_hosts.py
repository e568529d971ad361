"""Sweeps over hosts that are host processes on this machine: they come, die, are told to stop, and come again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import AttemptLost, AttemptStarted, Event, HostJoined, HostLeft, HostLost, JobEnded
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.owner import owner_of
from tests.helpers.apps import STAYS, App, Finished, Running, interrupted
from tests.helpers.hosts_here import pid_of
from tests.helpers.packages import needs

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ENGINE = "hydra.launcher.hosts.engine=tests.helpers.hosts_here"
QUICK = [ENGINE, "hydra.launcher.nproc_per_node=1", "hydra.launcher.shutdown_timeout=1", "hydra/launcher/logs=all"]

# The jobs of a pair wait for each other: they end only if both run at once.
IN_PAIRS = """
    print("pairs", cfg.x)
    here = Path(HydraConfig.get().runtime.output_dir).parent
    (here / f"runs.{cfg.x}").touch()
    while not (here / f"runs.{cfg.x ^ 1}").exists():
        time.sleep(0.02)
    return cfg.x * 10
"""


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"HOSTS_HERE": str(folder), "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **more}


@contextmanager
def started(folder: Path, body: str, *overrides: str, **more: str) -> Iterator[Running]:
    with App(folder, body).started(*QUICK, *overrides, environ=environ(folder, **more)) as running:
        yield running


def events(finished: Finished, kind: type[Event]) -> list[Any]:
    return [event for _, event in Lines(finished.folder / "journal.jsonl") if isinstance(event, kind)]


def left_behind(finished: Finished) -> list[str]:
    """Return the names of what is in the sweep's directory, but for what Hydra writes there."""
    return sorted(path.name for path in finished.folder.iterdir() if path.name != "multirun.yaml")


def values(finished: Finished) -> dict[int, Any]:
    return {event.num: event.value for event in events(finished, JobEnded) if event.state == "finished"}


@pytest.mark.smoke
def test_a_sweep_uses_two_hosts_at_once(tmp_path: Path) -> None:
    finished = App(tmp_path, IN_PAIRS).run(*QUICK, "+x=0,1,2,3", environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert {event.host for event in events(finished, AttemptStarted)} == {"n1", "n2"}
    assert {event.host for event in events(finished, HostJoined)} == {"n1", "n2"}
    assert not list(finished.folder.glob(".host_check*"))
    for x in range(4):
        assert f"#{x}: pairs {x}" in finished.output, "a line says whose it is where jobs run side by side"


def test_the_jobs_of_a_host_that_dies_are_tried_again(tmp_path: Path) -> None:
    with started(tmp_path, STAYS, "+x=1,2,3", "hydra/launcher/retry=preemptible") as running:
        running.wait_for("waits for ever")
        claim = owner_of(running.folder / "journal.jsonl")
        assert claim is not None
        assert claim.pid == running.pid, "launchers on other hosts are to know of this one"
        first = next(event for _, event in Lines(running.folder / "journal.jsonl") if isinstance(event, AttemptStarted))
        os.kill(pid_of(tmp_path, first.host), signal.SIGKILL)
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 10, 1: 20, 2: 30}
    assert owner_of(finished.folder / "journal.jsonl") is None
    (lost,) = events(finished, AttemptLost)
    assert lost.num == 0
    assert f"host {first.host} was lost" in lost.reason or "was lost: its stream has ended" in lost.reason
    assert "its jobs may run there for up to" in finished.output, "nobody is left to wonder what is waited for"
    assert [event.host for event in events(finished, HostLost)] == [first.host]


def test_the_jobs_of_a_host_that_is_told_to_stop_get_the_signal_and_go_on_elsewhere(tmp_path: Path) -> None:
    body = """
    mark = Path(HydraConfig.get().runtime.output_dir) / "tried"
    if not mark.exists():
        mark.touch()
        def checkpoint(number, frame):
            (mark.parent / "checkpoint").touch()
            sys.exit(0)
        signal.signal(signal.SIGUSR1, checkpoint)
        print("ready")
        time.sleep(600)
    return (mark.parent / "checkpoint").exists()
    """
    with started(tmp_path, body, "+x=1", "hydra/launcher/retry=preemptible", "hydra.launcher.hosts.max=1") as running:
        running.wait_for("ready")
        os.kill(pid_of(tmp_path, "n1"), signal.SIGUSR1)
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: True}
    assert [event.kind for event in events(finished, AttemptLost)] == ["preempted"]
    (left,) = events(finished, HostLeft)
    assert left.reason == "it was told to stop by SIGUSR1"


def test_nothing_stays_behind_a_launcher_that_is_killed_and_the_sweep_goes_on_when_resumed(tmp_path: Path) -> None:
    with started(tmp_path, STAYS, "+x=1,2") as running:
        running.wait_for("waits for ever")
        running.signal(signal.SIGKILL)
        running.wait_for_launcher()
        assert running.survivors(within=60.0) == []
    again = App(tmp_path, STAYS).run(*QUICK, "+x=1,2", "hydra.launcher.resume=true", environ=environ(tmp_path))
    assert again.returncode == 0, again.output
    assert values(again) == {0: 10, 1: 20}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_the_launcher_ends_all_hosts_in_order(tmp_path: Path, number: signal.Signals) -> None:
    body = """
    def leave(number, frame):
        (Path(HydraConfig.get().runtime.output_dir) / "left").touch()
        sys.exit(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    print(f"ready {cfg.x}")
    time.sleep(600)
    """
    patient = "hydra.launcher.shutdown_timeout=60"  # they leave at once, as soon as a busy machine lets them
    with started(tmp_path, body, patient, "+x=1,2,3") as running:
        running.wait_for("ready 1", "ready 2")
        running.signal(number)
        finished = running.finish()
        assert running.survivors() == []
    if number == signal.SIGINT:
        assert interrupted(finished.returncode), finished.output
    else:
        assert finished.returncode == 128 + number, finished.output
    assert {path.parent.name for path in finished.folder.glob("*/left")} == {"0", "1"}
    assert not (finished.folder / "2").exists()


def test_hosts_that_do_not_come_are_an_error_with_what_they_said(tmp_path: Path) -> None:
    nobody = {f"HOSTS_HERE_BEFORE_{name}": f"echo {name} is down >&2; exit 3" for name in ("n1", "n2")}
    finished = App(tmp_path, IN_PAIRS).run(*QUICK, "+x=0,1", environ=environ(tmp_path, **nobody))
    assert finished.returncode != 0
    assert "no host is there" in finished.output
    assert "n1: n1 has not started a host process: it ended with exit code 3, and said: n1 is down" in finished.output
    assert finished.output.count("no host at n1: n1 has not started a host process") == 1, "it was tried three times"
    assert left_behind(finished) == []


def test_a_host_that_does_not_see_the_app_is_left_alone(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    hidden = {"HOSTS_HERE_BEFORE_n1": f"mv {app} {app}.hidden"}
    finished = App(tmp_path, "return cfg.x").run(
        *QUICK, "hydra.launcher.hosts.max=1", "+x=1", environ=environ(tmp_path, **hidden)
    )
    assert finished.returncode != 0
    why = f"it does not see {app}: the app must be in a folder that all hosts share with the launcher"
    assert f"host n1 is left alone for the rest of the sweep: {why}" in finished.output


def test_a_host_that_does_not_answer_in_time_is_an_error(tmp_path: Path) -> None:
    slow = {f"HOSTS_HERE_BEFORE_{name}": "exec sleep 600" for name in ("n1", "n2")}
    limit = "hydra.launcher.hosts.start_timeout=0.5"
    finished = App(tmp_path, IN_PAIRS).run(*QUICK, limit, "+x=0,1", environ=environ(tmp_path, **slow))
    assert finished.returncode != 0
    assert "hydra.launcher.hosts.start_timeout=0.5: no host has come in time" in finished.output
    assert left_behind(finished) == []


def test_a_sweep_that_is_refused_leaves_the_record_of_an_earlier_one_as_it_was(tmp_path: Path) -> None:
    first = App(tmp_path, "return cfg.x").run(*QUICK, "+x=1,2", environ=environ(tmp_path))
    assert first.returncode == 0, first.output
    record = (first.folder / "journal.jsonl").read_bytes()
    wrong = "hydra.launcher.resources.cpus_per_worker=0"
    second = App(tmp_path, "return cfg.x").run(*QUICK, "+x=1,2", wrong, environ=environ(tmp_path))
    assert second.returncode == 2, second.output
    assert f"{wrong}: must be" in second.output
    assert (first.folder / "journal.jsonl").read_bytes() == record


def test_while_the_first_host_is_waited_for_a_sweep_is_seen_and_can_be_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = {f"HOSTS_HERE_BEFORE_{name}": f"touch {tmp_path}/waits; exec sleep 600" for name in ("n1", "n2")}
    with started(tmp_path, IN_PAIRS, "+x=0,1", **slow) as running:
        while not (tmp_path / "waits").exists():
            assert running.ended_within(0.05) is None, running.output
        assert main(["status", str(running.folder)]) == 0
        assert "sweep: running" in capsys.readouterr().out
        assert main(["stop", str(running.folder), "0"]) == 2
        assert "no job can run or wait yet" in capsys.readouterr().err
        assert main(["stop", str(running.folder)]) == 0
        finished = running.finish()
        assert running.survivors() == []
    assert finished.returncode == 128 + signal.SIGTERM, finished.output
    assert left_behind(finished) == []


def test_one_host_that_does_not_come_keeps_no_job_waiting(tmp_path: Path) -> None:
    down = {"HOSTS_HERE_BEFORE_n2": "exit 3"}
    finished = App(tmp_path, "return cfg.x").run(*QUICK, "+x=1,2,3", environ=environ(tmp_path, **down))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 1, 1: 2, 2: 3}
    assert {event.host for event in events(finished, AttemptStarted)} == {"n1"}


def test_the_hosts_of_one_batch_run_the_jobs_of_the_next(tmp_path: Path) -> None:
    batches = ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"]
    finished = App(tmp_path, IN_PAIRS).run(*QUICK, *batches, "+x=0,1,2,3", environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    assert values(finished) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert len(events(finished, HostJoined)) == 2


SLOW_SWEEPER = """
import time
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

class SlowSweeper(BasicSweeper):
    def setup(self, **kwargs):
        super().setup(**kwargs)
        launch = self.launcher.launch
        def launch_and_think(*args, **kwargs):
            self.launcher.launch = launch  # once is enough
            returned = launch(*args, **kwargs)
            time.sleep(18.0)
            return returned
        self.launcher.launch = launch_and_think
"""


def test_a_sweeper_that_thinks_for_longer_than_the_silence_keeps_its_hosts(tmp_path: Path) -> None:
    plugins = tmp_path / "hydra_plugins"
    plugins.mkdir()
    (plugins / "slow_sweeper.py").write_text(SLOW_SWEEPER)
    slow = ["hydra.sweeper._target_=hydra_plugins.slow_sweeper.SlowSweeper", "hydra.sweeper.max_batch_size=1"]
    few = ["hydra.launcher.hosts.max=1", "hydra.launcher.hosts.silence=8", "hydra/launcher/retry=preemptible"]
    for number in count():  # a busy machine may miss so short a deadline
        there = f"hydra.sweep.dir={tmp_path}/{number}"
        finished = App(tmp_path, "return cfg.x").run(*QUICK, *slow, *few, "+x=1,2", there, environ=environ(tmp_path))
        joined = re.findall(r"host n1: \d+ CPUs", finished.output)
        if finished.returncode == 0 and len(joined) == 1:
            return


@needs("hydra_plugins.hydra_optuna_sweeper", extra="optuna")
def test_optuna_learns_from_the_values_of_batch_after_batch_on_the_same_hosts(tmp_path: Path) -> None:
    # The first two trials wait for each other: one host alone could be done with all before the other one is there.
    body = """
    here = Path(HydraConfig.get().runtime.output_dir)
    here.with_name(f"runs.{here.name}").touch()
    while not all(here.with_name(f"runs.{num}").exists() for num in (0, 1)):
        time.sleep(0.02)
    if cfg.x == 3:
        raise ValueError("too far")
    return (cfg.x - 2) ** 2 + 0.5
    """
    study = ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=2"]
    trials = ["hydra.sweeper.n_trials=6", "hydra.sweeper.max_failure_rate=1.0", "+x=choice(0,1,2,3)"]
    finished = App(tmp_path, body).run(*QUICK, *study, *trials, environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    ended = events(finished, JobEnded)
    assert sorted(event.num for event in ended) == list(range(6)), "each trial has one result"
    assert {event.state for event in ended} == {"finished", "failed"}
    best = yaml.safe_load((finished.folder / "optimization_results.yaml").read_text())["best_value"]
    assert best == min(values(finished).values())
    hosts = sorted(event.host for event in events(finished, HostJoined))
    assert hosts == ["n1", "n2"], "hosts stay between batches"
    assert {event.host for event in events(finished, AttemptStarted)} == {"n1", "n2"}


def test_the_restarts_of_workers_on_a_host_are_in_the_journal(tmp_path: Path) -> None:
    body = """
    mark = Path(HydraConfig.get().runtime.output_dir) / "tried"
    if not mark.exists():
        mark.touch()
        raise OSError("once")
    return cfg.x
    """
    retry = ["hydra.launcher.retry.max_restarts=1", "hydra.launcher.hosts.max=1"]
    finished = App(tmp_path, body).run(*QUICK, *retry, "+x=5", environ=environ(tmp_path))
    assert finished.returncode == 0, finished.output
    (end,) = events(finished, JobEnded)
    assert (end.value, end.restarts) == (5, 1)
