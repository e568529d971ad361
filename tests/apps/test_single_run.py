"""A run without `-m` of an app that `elastic_hydra.main` decorates: under the elastic agent, in its run directory."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from elastic_hydra.journal import reader, writer
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.journal.lines import Lines
from tests.helpers.apps import App, Finished, interrupted

BODY = """
    log.info("log of rank %s", os.environ["RANK"])
    print("stdout of rank", os.environ["RANK"])
    config = HydraConfig.get()
    note(
        cwd=os.getcwd(),
        now=cfg.now,
        world=os.environ["WORLD_SIZE"],
        has_number=not OmegaConf.is_missing(config.job, "num") or not OmegaConf.is_missing(config.job, "id"),
        output_dir=config.runtime.output_dir,
        again=config.run.dir,
        mode=config.mode.name,
        overrides=list(config.overrides.task),
        argv=sys.argv,
    )
    return cfg.x * 10 + int(os.environ["RANK"])
"""
AFTER = """
import atexit
atexit.register(lambda: log.info("after the run"))
"""
TWO_WORKERS = "hydra.launcher.nproc_per_node=2"
OVERRIDES = [TWO_WORKERS, "+now=${now:%H-%M-%S-%f}", "+x=1"]
VARIANTS = {
    "warm": (True, ["hydra.job.chdir=true"]),
    "spawn, main() unguarded": (False, ["hydra.job.chdir=true", "hydra.launcher.start_method=spawn"]),
    "forkserver, main() unguarded": (False, ["hydra.job.chdir=false", "hydra.launcher.start_method=forkserver"]),
}


@pytest.fixture(scope="module", params=list(VARIANTS.values()), ids=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> tuple[bool, list[str]]:
    guarded, overrides = request.param
    return guarded, overrides


@pytest.fixture(scope="module")
def run(variant: tuple[bool, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    guarded, overrides = variant
    app = App(tmp_path_factory.mktemp("app"), BODY, before=AFTER, guarded=guarded, single=True)
    finished = app.run(*OVERRIDES, *overrides)
    assert finished.returncode == 0, finished.output
    return finished


@pytest.mark.system
def test_the_run_directory_has_what_hydra_writes_and_the_launcher_s_logs_and_journal(run: Finished) -> None:
    assert {path.name for path in run.folder.iterdir() if not path.name.startswith("seen")} == {
        *(".hydra", "app.log", "app.rank1.log", "logs", "journal.jsonl", "journal.lock", "agent.pid")
    }
    written = {path.name for path in (run.folder / ".hydra").iterdir()}
    assert written == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    overrides = yaml.safe_load((run.folder / ".hydra" / "overrides.yaml").read_text())
    assert overrides == [override for override in OVERRIDES if override.startswith("+")]


@pytest.mark.system
def test_callbacks_are_called_once_and_get_rank_0_s_value(run: Finished) -> None:
    (start,), (end,) = run.calls("run_start"), run.calls("run_end")
    assert end == [*start, "COMPLETED", "10"]  # both in the launcher
    assert run.calls("job_start") == [["none"]]
    assert run.calls("job_end") == [["none", "COMPLETED", "10"]]
    assert run.calls("multirun_start") == run.calls("multirun_end") == []


@pytest.mark.system
def test_every_rank_sees_the_configuration_of_a_run(run: Finished, variant: tuple[bool, list[str]]) -> None:
    first, second = run.seen(None, 0), run.seen(None, 1)
    assert first == second
    assert (first["world"], first["has_number"], first["mode"]) == ("2", False, "RUN")
    assert first["output_dir"] == first["again"] == str(run.folder)
    assert first["cwd"] == str(run.folder if "hydra.job.chdir=true" in variant[1] else run.folder.parent)
    assert "+x=1" in first["overrides"]
    assert "hydra/launcher=elastic" in first["argv"]


@pytest.mark.system
def test_the_console_and_the_log_have_rank_0_s_lines_and_those_that_follow_the_run(run: Finished) -> None:
    for text in ("log of rank 0", "stdout of rank 0"):
        assert run.output.count(text) == 1
    assert "of rank 1" not in run.output
    assert "is not used" not in run.output
    assert "log of rank 1" in (run.folder / "app.rank1.log").read_text()
    log = (run.folder / "app.log").read_text()
    assert log.index("log of rank 0") < log.index("after the run")


@pytest.mark.system
def test_the_journal_says_that_it_is_a_single_run(run: Finished) -> None:
    path = run.folder / writer.FILE_NAME
    (began,) = (event for _, event in Lines(path) if isinstance(event, SweepBegan))
    assert (began.single, began.dir) == (True, str(run.folder))
    (job,) = reader.read(path).values()
    assert (job.num, job.state, job.dir) == (0, "finished", str(run.folder))
    assert job.value is not None
    assert job.value.load() == 10


FAILING = """
    if not Path("mended").exists():
        raise ValueError("not mended")
    return cfg.x
"""


@pytest.mark.smoke
@pytest.mark.system
def test_a_run_that_fails_ends_as_hydra_ends_it_and_is_resumed_by_the_printed_command(tmp_path: Path) -> None:
    app = App(tmp_path, FAILING, single=True)
    failed = app.run("+x=1")
    assert failed.returncode == 1, failed.output
    assert "Error executing job with overrides: [" in failed.output
    assert "ValueError: not mended" in failed.output
    assert [call[1] for call in failed.calls("run_end")] == ["FAILED"]
    (tmp_path / "mended").touch()
    moved = failed.folder.rename(tmp_path / "moved")
    again = [f"hydra.run.dir={moved}", "hydra.launcher.resume=true"]
    _, _, rest = failed.output.partition("To run what has not finished:\n")
    command = rest.splitlines()[0].replace(str(failed.folder), str(moved))
    assert command.endswith(" ".join(again))
    outputs = []
    for _ in range(2):  # the second time nothing is left to do
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=app.environment(), check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outputs.append(done.stdout)
    assert ["#0 finished: 1" in output for output in outputs] == [True, False]
    other = app.run("+x=2", *again)
    assert other.returncode == 2
    assert "job #0 is no longer what it was" in other.output


@pytest.mark.system
def test_retries_are_as_configured(tmp_path: Path) -> None:
    body = """
        if not Path("mended").exists():
            Path("mended").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1
    """
    done = App(tmp_path, body, single=True).run("hydra/launcher/retry=transient")
    assert done.returncode == 0, done.output
    assert (done.folder / "logs" / "restart_1").is_dir()
    assert done.calls("job_start") == [["none"]]


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_the_launcher_stops_the_run(tmp_path: Path, number: signal.Signals) -> None:
    body = """
        def leave(number, frame):
            (Path(HydraConfig.get().runtime.output_dir) / f"left.{os.environ['RANK']}").touch()
            sys.exit(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)
        print("ready:", os.environ["RANK"])
        while True:
            time.sleep(600)
    """
    app = App(tmp_path, body, single=True)
    with app.started(TWO_WORKERS, "hydra/launcher/logs=all") as running:
        running.wait_for("ready: 0", "ready: 1")
        running.signal(number)
        finished = running.finish()
        assert running.survivors() == []
    if number == signal.SIGINT:
        assert interrupted(finished.returncode), finished.output
    else:
        assert finished.returncode == 128 + number, finished.output
    assert {path.name for path in finished.folder.glob("left.*")} == {"left.0", "left.1"}  # the workers were asked
    (job,) = reader.read(finished.folder / writer.FILE_NAME).values()
    assert job.state == ("interrupted" if number == signal.SIGINT else "preempted")
    assert "hydra.launcher.resume=true" in finished.output


@pytest.mark.system
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hydra.launcher.nproc_per_node=-1", "hydra.launcher.nproc_per_node=-1: must be 1 or more"),
        ("hydra.run.dir=/proc/here", "hydra.run.dir=/proc/here: nothing can be written in /proc"),
        ("hydra.run.dir=${nope}", "hydra.run.dir=${nope}: "),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_starts(tmp_path: Path, override: str, said: str) -> None:
    refused = App(tmp_path, "print('RAN')", single=True).run(override)
    assert refused.returncode == 2, refused.output
    assert said in refused.output
    assert "RAN" not in refused.output
    assert not refused.folder.exists()


@pytest.mark.system
def test_a_dry_run_shows_what_would_be_launched_and_leaves_nothing(tmp_path: Path) -> None:
    done = App(tmp_path, "print('RAN')", single=True).run(TWO_WORKERS, "hydra.launcher.dry_run=true")
    assert done.returncode == 0, done.output
    assert "workers per node: 2" in done.output
    assert f"directory: {done.folder}" in done.output
    assert "RAN" not in done.output
    assert not done.folder.exists()


@pytest.mark.system
def test_what_torchrun_has_started_is_a_worker_already(tmp_path: Path) -> None:
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    done = App(tmp_path, "print('RAN in', os.getpid())", single=True).run(environ=ranks)
    assert done.returncode == 0, done.output
    assert "RANK is set, since torchrun has started this process" in done.output
    assert f"RAN in {done.calls('run_start')[0][0]}" in done.output


@pytest.mark.system
def test_the_same_app_runs_a_sweep(tmp_path: Path) -> None:
    app = App(tmp_path, "print('RAN', cfg.x)", module="package.train", single=True)
    done = app.run("+x=1,2", "hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 0, done.output
    assert "Launching 2 jobs" in done.output
    assert "2 finished" in done.output
    one = app.run("+x=1")
    assert "RAN 1" in one.output
