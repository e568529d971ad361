"""Sweeps that fail, stop, are killed, and go on: real launchers on real files."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from elastic_hydra.journal import reader, writer
from tests.helpers.apps import App

pytestmark = pytest.mark.system

BODY = """
folder = Path.cwd()
with open(folder / "ran", "a") as file:
    file.write(f"{cfg.x}\\n")
if cfg.x in (folder / "bad").read_text().split():
    raise ValueError(f"{cfg.x} is bad")
if cfg.x == "wait":
    print("waiting", flush=True)
    time.sleep(600)
return {"got": cfg.x}
"""


def app(tmp_path: Path, bad: str = "") -> App:
    (tmp_path / "bad").write_text(bad)
    return App(tmp_path, BODY)


def ran(tmp_path: Path) -> list[str]:
    path = tmp_path / "ran"
    words = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return words


def states(folder: Path) -> list[str]:
    return [job.state for job in reader.read(folder / writer.FILE_NAME).values()]


@pytest.mark.smoke
def test_what_failed_runs_again_and_what_finished_does_not(tmp_path: Path) -> None:
    sweep = app(tmp_path, bad="b")
    first = sweep.run("+x=a,b,c")
    assert first.returncode == 1
    assert ran(tmp_path) == ["a", "b", "c"]
    assert "1 failed" in first.output
    assert "hydra.launcher.resume=true" in first.output
    assert states(first.folder) == ["finished", "failed", "finished"]

    (tmp_path / "bad").write_text("")
    second = sweep.run("+x=a,b,c", "hydra.launcher.resume=true")
    assert second.returncode == 0, second.output
    assert ran(tmp_path) == ["b"]
    assert "3 finished" in second.output
    assert states(second.folder) == ["finished"] * 3

    longer = sweep.run("+x=a,b,c,d", "hydra.launcher.resume=true")
    assert ran(tmp_path) == ["d"]
    assert (longer.folder / "3").is_dir()


@pytest.mark.smoke
def test_a_sweep_goes_on_where_its_launcher_was_killed(tmp_path: Path) -> None:
    sweep = app(tmp_path)
    with sweep.started("+x=a,wait,c") as running:
        running.wait_for("waiting")
        running.signal(signal.SIGKILL)
        running.wait_for_launcher()
        assert running.survivors() == []
    assert ran(tmp_path) == ["a", "wait"]
    assert states(tmp_path / "sweep") == ["finished", "started", "waiting"]

    # The job's code is mended, not its configuration.
    sweep.path.write_text(sweep.path.read_text().replace('if cfg.x == "wait"', "if False"))
    rest = sweep.run("+x=a,wait,c", "hydra.launcher.resume=interrupted")
    assert rest.returncode == 0, rest.output
    assert ran(tmp_path) == ["wait", "c"]
    assert [entry.name for entry in sorted(rest.folder.iterdir()) if entry.is_dir()] == ["0", "1", "2"]


def test_a_job_whose_configuration_has_changed_is_refused(tmp_path: Path) -> None:
    sweep = app(tmp_path, bad="a")
    sweep.path.write_text(sweep.path.read_text().replace("config_path=None", 'config_path=".", config_name="conf"'))
    (tmp_path / "conf.yaml").write_text("x: none\nrate: 1\n")
    assert sweep.run("x=a,b").returncode == 1
    ran(tmp_path)
    (tmp_path / "conf.yaml").write_text("x: none\nrate: 2\n")
    refused = sweep.run("x=a,b", "hydra.launcher.resume=true")
    assert refused.returncode == 2
    assert "-rate: 1" in refused.output
    assert "+rate: 2" in refused.output
    assert ran(tmp_path) == []


def test_a_second_launcher_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    sweep = app(tmp_path)
    with sweep.started("+x=wait") as running:
        running.wait_for("waiting")
        second = App(tmp_path, BODY).run("+x=a")
        assert second.returncode == 2
        assert "another launcher" in second.output
        assert ran(tmp_path) == ["wait"]


def test_on_failure_stop_starts_no_more_jobs(tmp_path: Path) -> None:
    stopped = app(tmp_path, bad="b").run("+x=a,b,c,d", "hydra.launcher.on_failure=stop")
    assert stopped.returncode == 1
    assert ran(tmp_path) == ["a", "b"]
    assert "on_failure=stop" in stopped.output
    assert states(stopped.folder) == ["finished", "failed", "waiting", "waiting"]


def test_max_failures_allows_that_many(tmp_path: Path) -> None:
    app(tmp_path, bad="a b c").run("+x=a,b,c,d", "hydra.launcher.max_failures=1")
    assert ran(tmp_path) == ["a", "b"]
    app(tmp_path, bad="a b c").run("+x=a,b,c,d", "hydra.launcher.max_failures=0.5")
    assert ran(tmp_path) == ["a", "b", "c"]


def test_an_interrupted_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    sweep = app(tmp_path)
    with sweep.started("+x=a,wait,c") as running:
        running.wait_for("waiting")
        running.signal(signal.SIGTERM)
        stopped = running.finish()
        assert running.survivors() == []
    assert stopped.returncode == 128 + signal.SIGTERM
    assert states(stopped.folder) == ["finished", "preempted", "waiting"]
    assert "hydra.launcher.resume=true" in stopped.output


def test_a_lost_agent_is_replaced_while_attempts_are_left(tmp_path: Path) -> None:
    body = """
    import psutil
    if not Path("once").exists():
        Path("once").write_text("")
        agent = next(p for p in psutil.Process().parent().children() if p.pid != os.getpid())
        agent.kill()
        time.sleep(600)
    return os.environ["RANK"]
    """
    finished = App(tmp_path, body).run("hydra.launcher.nproc_per_node=1", "hydra.launcher.retry.max_attempts=2")
    assert finished.returncode == 0, finished.output
    events = [json.loads(line)["event"] for line in (finished.folder / "journal.jsonl").read_text().splitlines()]
    assert events == ["sweep", "batch", "job", "start", "workers", "lost", "start", "workers", "end"]


def test_restarts_are_in_the_journal_with_their_reason(tmp_path: Path) -> None:
    body = """
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    """
    finished = App(tmp_path, body).run("hydra/launcher/retry=restart")
    assert finished.returncode == 0, finished.output
    lines = map(json.loads, (finished.folder / "journal.jsonl").read_text().splitlines())
    (failure,) = [line for line in lines if line["event"] == "failure"]
    assert (failure["again"], failure["failure"]["kind"], failure["failure"]["signal"]) == (True, "signal", "SIGKILL")


@pytest.mark.smoke
def test_a_dry_run_launches_and_writes_nothing(tmp_path: Path) -> None:
    planned = app(tmp_path).run("+x=a,b", "hydra.launcher.dry_run=true", "hydra/launcher/numa=spread")
    assert planned.returncode == 0, planned.output
    assert "workers per node: 1" in planned.output
    assert "on node 0" in planned.output
    assert ran(tmp_path) == []
    assert not (planned.folder / "journal.jsonl").exists()


def test_each_way_to_resume_runs_its_jobs_and_no_others(tmp_path: Path) -> None:
    sweep = app(tmp_path, bad="b")
    with sweep.started("+x=a,b,wait,d") as running:
        running.wait_for("waiting")
        running.signal(signal.SIGINT)
        running.finish()
    assert states(tmp_path / "sweep") == ["finished", "failed", "interrupted", "waiting"]
    ran(tmp_path)
    (tmp_path / "bad").write_text("")
    sweep.path.write_text(sweep.path.read_text().replace('if cfg.x == "wait"', "if False"))

    failed = sweep.run("+x=a,b,wait,d", "hydra.launcher.resume=failed")
    assert failed.returncode == 1, "two jobs are still to be run"
    assert ran(tmp_path) == ["b"]
    assert "not run: it was interrupted, and hydra.launcher.resume=failed runs others only" in failed.output
    assert sweep.run("+x=a,b,wait,d", "hydra.launcher.resume=interrupted").returncode == 0
    assert ran(tmp_path) == ["wait", "d"]
    everything = sweep.run("+x=a,b,wait,d", "hydra.launcher.resume=all")
    assert ran(tmp_path) == ["a", "b", "wait", "d"]
    assert states(everything.folder) == ["finished"] * 4
    assert sorted(entry.name for entry in everything.folder.iterdir() if entry.is_dir()) == ["0", "1", "2", "3"]


def test_a_failed_job_that_was_not_reached_again_is_still_a_failed_one(tmp_path: Path) -> None:
    sweep = app(tmp_path, bad="a b")
    assert sweep.run("+x=a,b").returncode == 1
    again = sweep.run("+x=a,b", "hydra.launcher.resume=failed", "hydra.launcher.on_failure=stop")
    assert ran(tmp_path) == ["a", "b", "a"]
    assert states(again.folder) == ["failed", "failed"]


def test_another_app_s_sweep_is_not_taken_for_this_one(tmp_path: Path) -> None:
    assert app(tmp_path).run("+x=a").returncode == 0
    other = App(tmp_path, "return 1", module="other")
    refused = other.run("+x=a", "hydra.launcher.resume=true")
    assert refused.returncode == 2, refused.output
    assert "has a sweep of app, and this is other" in refused.output


def test_a_spawned_sweep_s_workers_keep_others_out_until_they_are_gone(tmp_path: Path) -> None:
    body = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("waiting", flush=True)
    time.sleep(600)
    """
    slow = App(tmp_path, body)
    with slow.started("hydra.launcher.start_method=forkserver", "hydra.launcher.shutdown_timeout=600") as running:
        running.wait_for("waiting")
        running.signal(signal.SIGKILL)
        running.wait_for_launcher()
        refused = App(tmp_path, "return 1").run("hydra.launcher.resume=true")
        assert refused.returncode == 2, refused.output
        assert "another launcher, or a worker of it, is still at work there" in refused.output


def test_the_time_limit_is_for_all_attempts_together(tmp_path: Path) -> None:
    body = """
    import psutil
    if HydraConfig.get().job.num == 0:
        print("begun", flush=True)
        agent = next(p for p in psutil.Process().parent().children() if p.pid != os.getpid())
        time.sleep(1.0)
        agent.kill()
    time.sleep(600)
    """
    limits = ["hydra.launcher.watch.time_limit=2.5", "hydra.launcher.retry.max_attempts=9"]
    ended = App(tmp_path, body).run(*limits)
    assert ended.returncode == 1
    lines = [json.loads(line) for line in (ended.folder / "journal.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("start") in (2, 3)
    assert lines[-1]["event"] == "end"
    assert lines[-1]["seconds"] > 2.0


def test_the_last_screen_shows_the_user_s_frames_and_not_the_launcher_s(tmp_path: Path) -> None:
    failed = app(tmp_path, bad="b").run("+x=a,b")
    _, _, last = failed.output.rpartition("Traceback (most recent call last):")
    assert "in main" in last
    assert "ValueError: b is bad" in last
    assert "hydra/_internal" not in last
    assert "elastic_hydra/" not in last.partition("ValueError")[0]
