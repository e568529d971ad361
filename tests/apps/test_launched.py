"""Sweeps and runs that Python code launches: their results, their end, and what stays as it was."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig

import elastic_hydra
from elastic_hydra.compat.hydra_app import decoration_of, name_and_folder
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.journal.events import SweepBegan
from elastic_hydra.journal.lines import Lines
from elastic_hydra.journal.writer import FILE_NAME
from elastic_hydra.supervisor.fork_safety import fork_hazard

pytestmark = pytest.mark.timeout(900)  # many launchers: where the suite runs in parallel, each in a fresh interpreter

RANK = "RANK"


class Answer:
    """What JSON does not know."""

    def __init__(self, value: int) -> None:
        self.value = value


def task(cfg: DictConfig) -> Any:
    """Do what `then` says."""
    if cfg.then == "fail" and os.environ[RANK] == "0":  # one rank only: which of several is the first is not sure
        raise ValueError(f"x is {cfg.x}")
    if cfg.then == "answer":
        return Answer(cfg.x)
    if cfg.then == "wait":
        Path(cfg.folder, f"started.{cfg.x}").touch()
        while not Path(cfg.folder, f"go.{cfg.x}").exists():
            time.sleep(0.02)
    return cfg.x * 10 + int(os.environ[RANK])


def placed(folder: Path, *overrides: str) -> list[str]:
    return [*overrides, f"+folder={folder}", f"hydra.sweep.dir={folder}/sweep", f"hydra.run.dir={folder}/run"]


@pytest.mark.smoke
@pytest.mark.system
def test_a_sweep_gives_a_result_for_each_job(tmp_path: Path) -> None:
    overrides = placed(tmp_path, "+x=1,2", "+then=return,fail,answer", "hydra.launcher.nproc_per_node=2")
    results = elastic_hydra.sweep(task, overrides).results()
    assert [result.num for result in results] == [0, 1, 2, 3, 4, 5]
    assert [result.state for result in results] == ["finished", "failed", "finished"] * 2
    assert [results[0].value, results[1].value, results[3].value] == [10, None, 20]
    for num, x in ((2, 1), (5, 2)):
        assert [type(results[num].value), results[num].value.value] == [Answer, x]
    assert results[1].reason == "rank 0 raised ValueError: x is 1"
    assert results[1].log is not None
    assert "ValueError: x is 1" in results[1].log.read_text()
    assert [result.dir for result in results] == [tmp_path / "sweep" / str(num) for num in range(6)]
    assert {"+x=2", "+then=fail"} <= set(results[4].overrides)


@pytest.mark.system
def test_results_come_while_other_jobs_run(tmp_path: Path) -> None:
    overrides = placed(tmp_path, "+x=1,2,3", "+then=wait", "hydra.launcher.parallel=3")
    with elastic_hydra.sweep(task, overrides) as sweep:
        found = []
        (tmp_path / "go.2").touch()
        for result in sweep.as_completed():
            found.append(result.value)
            (tmp_path / f"go.{3 if len(found) == 1 else 1}").touch()
    assert found == [20, 30, 10]
    assert not sweep.running
    assert sweep.dir == tmp_path / "sweep"
    assert [result.value for result in sweep.results()] == [10, 20, 30]  # as often as they are asked for


@pytest.mark.system
def test_a_cancelled_sweep_stops_in_order(tmp_path: Path) -> None:
    sweep = elastic_hydra.sweep(task, placed(tmp_path, "+x=1,2", "+then=wait"))
    while not (tmp_path / "started.1").exists():
        assert sweep.running
        time.sleep(0.05)
    sweep.cancel()
    assert [result.state for result in sweep.results()] == ["preempted", "not started"]
    assert not (tmp_path / "started.2").exists()


@pytest.mark.system
def test_a_launcher_that_is_killed_is_no_end_in_silence(tmp_path: Path) -> None:
    sweep = elastic_hydra.sweep(task, placed(tmp_path, "+x=1,2", "+then=return,wait"))
    while not (tmp_path / "started.1").exists():
        time.sleep(0.05)
    os.kill(reading(sweep.dir).pid or 0, signal.SIGKILL)
    assert [result.state for result in sweep.results()] == ["finished", "lost", "not started", "not started"]


def reading(folder: Path) -> SweepBegan:
    """Return what the journal of a sweep says of its launcher."""
    return next(event for _, event in Lines(folder / FILE_NAME) if isinstance(event, SweepBegan))


@pytest.mark.system
def test_a_sweep_is_resumed(tmp_path: Path) -> None:
    first = elastic_hydra.sweep(task, placed(tmp_path, "+x=1,2", "+then=wait"))
    (tmp_path / "go.1").touch()
    assert next(first.as_completed()).value == 10
    while not (tmp_path / "started.2").exists():
        time.sleep(0.05)
    first.cancel()
    assert [result.state for result in first.results()] == ["finished", "preempted"]
    (tmp_path / "go.2").touch()
    again = elastic_hydra.sweep(task, placed(tmp_path, "+x=1,2", "+then=wait", "hydra.launcher.resume=true"))
    assert [(result.state, result.value) for result in again.results()] == [("finished", 10), ("finished", 20)]


@pytest.mark.system
def test_a_run_that_fails_gives_a_result_and_errors_before_it_are_raised(tmp_path: Path) -> None:
    failed = elastic_hydra.run(task, placed(tmp_path, "+x=1", "+then=fail"))
    assert (failed.state, failed.reason) == ("failed", "rank 0 raised ValueError: x is 1")
    planned = elastic_hydra.run(task, placed(tmp_path / "no", "+x=1", "hydra.launcher.dry_run=true"))
    assert (planned.state, planned.reason) == ("not started", "hydra.launcher.dry_run=true")
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.nproc_per_node=-1: must be 1 or more"):
        elastic_hydra.run(task, placed(tmp_path, "hydra.launcher.nproc_per_node=-1"))
    with pytest.raises(ConfigCompositionException, match="Could not override 'nope'"):
        elastic_hydra.run(task, placed(tmp_path, "nope=1"))
    with pytest.raises(TypeError, match="must be a list of overrides"):
        elastic_hydra.run(task, "x=1")


@pytest.mark.system
def test_nothing_of_the_calling_process_changes(tmp_path: Path) -> None:
    def facts() -> list[Any]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals()]
        singletons = [id(GlobalHydra.instance().hydra), id(HydraConfig.instance().cfg)]
        root = logging.getLogger()
        loggers = [root.level, list(root.handlers), logging.getLogger("elastic_hydra").level]
        return [handlers, singletons, loggers, list(sys.argv), os.getcwd(), dict(os.environ), fork_hazard()]

    importlib.import_module("elastic_hydra.apps.launched")
    GlobalHydra.instance().clear()
    with hydra.initialize(version_base=None, config_path=None):
        before = facts()
        done = elastic_hydra.run(task, placed(tmp_path, "+x=1", "+then=return"))
        assert (done.num, done.state, done.value, done.dir) == (0, "finished", 10, tmp_path / "run")
        assert facts() == before
        assert hydra.compose(overrides=["+x=1"]).x == 1


APP = """
import hydra, elastic_hydra
from hydra.core.hydra_config import HydraConfig

@{decorator}(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    return [cfg.x, HydraConfig.get().job.name, HydraConfig.get().runtime.choices["hydra/launcher"]]
"""


@pytest.mark.system
@pytest.mark.parametrize("decorator", ["hydra.main", "elastic_hydra.main"])
def test_a_decorated_app_is_found_with_its_configuration(
    tmp_path: Path, decorator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"app_of_{decorator.partition('.')[0]}"
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("x: 5\n")
    (tmp_path / "conf" / "other.yaml").write_text("x: 6\n")
    (tmp_path / f"{name}.py").write_text(APP.format(decorator=decorator))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    app = importlib.import_module(name).main
    assert elastic_hydra.run(app, placed(tmp_path)).value == [5, name, "elastic"]
    if decorator == "elastic_hydra.main":
        assert elastic_hydra.run(app, placed(tmp_path), config_dir="conf", config_name="other").value[0] == 6


def test_what_a_decorator_knows() -> None:
    decorated = hydra.main(version_base=None, config_path="conf", config_name="config")(task)
    found = decoration_of(decorated)
    assert (found.task_function, found.config_path, found.config_name) == (task, "conf", "config")
    assert name_and_folder(found) == ("test_launched", f"{Path(__file__).parent}/conf")
    assert decoration_of(task).task_function is task
    assert decoration_of(len).task_function is len
