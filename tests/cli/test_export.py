"""`elastic-hydra export`: tables, and studies of Optuna's."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import AttemptStarted, Event, JobEnded, SweepBegan
from tests.cli.recorded import composed, record

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="Optuna is not installed")

GIVEN = [("0.1", "sgd", 8), ("1e-3", "adam", 64), ("1", "sgd", 2048), ("1", "a,b", 8), ("1", "a,b", 8)]
"""Learning rate, optimizer and width of each job."""


def ended(num: int, **fields: Any) -> Event:
    return JobEnded(**{"time": 1010.0 + num, "num": num, "state": "finished", "reason": "", "seconds": 5.0, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a sweep of five jobs, of which two have a number, one has failed, one was lost and one has a mapping."""
    folder = tmp_path / "multirun" / "sweep"
    overrides = [(f"lr={lr}", f"+opt={opt}", f"width={width}", "epochs=3") for lr, opt, width in GIVEN]
    return record(
        folder,
        *(composed(folder, num, *given) for num, given in enumerate(overrides)),
        ended(0, value=0.5),
        ended(1, value=0.25, attempts=2, restarts=1),
        ended(2, state="failed", kind="exception", reason="rank 0 raised ValueError: boom"),
        AttemptStarted(time=1020.0, num=3, attempt=0, host="n2"),
        ended(4, value={"loss": 1}),
    )


def test_a_table_has_a_column_for_each_parameter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["job"], row["state"], row["value"], row["lr"], row["opt"]) for row in rows] == [
        ("0", "finished", "0.5", "0.1", "sgd"),
        ("1", "finished", "0.25", "1e-3", "adam"),
        ("2", "failed", "", "1", "sgd"),
        ("3", "lost", "", "1", "a,b"),
        ("4", "finished", '{"loss": 1}', "1", "a,b"),
    ]
    assert rows[1]["attempts"] == "2"
    assert [row["host"] for row in rows] == ["node", "node", "node", "n2", "node"], "the launcher's own, or another one"
    assert rows[2]["reason"] == "rank 0 raised ValueError: boom"


def test_json_has_the_types_of_parameters(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "jobs.json"
    assert main(["export", str(folder), "--json", "-o", str(file)]) == 0
    jobs = json.loads(file.read_text())
    assert jobs[1]["params"] == {"lr": 0.001, "opt": "adam", "width": 64, "epochs": 3}
    assert jobs[1]["started"] == 1006.0
    assert jobs[1]["seconds"] == 5.0
    assert jobs[3]["value"] is None
    assert jobs[3]["host"] == "n2"


@needs_optuna
@pytest.mark.system  # a database takes more than a moment
def test_a_study_has_a_trial_for_each_job(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/study.db"
    export = ["export", str(folder), "--optuna", url, "--study"]
    assert main([*export, "grid"]) == 0
    assert "study grid in sqlite" in capsys.readouterr().out
    study = optuna.load_study(study_name="grid", storage=url)
    assert study.direction.name == "MINIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "FAIL"]
    best = study.best_trial
    assert (best.value, best.params) == (0.25, {"lr": 0.001, "opt": "adam", "width": 64, "epochs": 3})
    assert best.user_attrs["attempts"] == 2
    assert best.duration is not None
    assert best.duration.total_seconds() == 5.0
    assert study.trials[4].user_attrs["value"] == {"loss": 1}
    assert study.trials[2].user_attrs["reason"] == "rank 0 raised ValueError: boom"

    record(folder, SweepBegan(time=1030.0, resume=True, dir=str(folder), maximize=True), begin=False)
    assert main([*export, "grid"]) == 0  # the earlier one is replaced
    study = optuna.load_study(study_name="grid", storage=url)
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "WAITING", "FAIL"]

    optuna.create_study(study_name="mine", storage=url)
    capsys.readouterr()
    assert main([*export, "mine"]) == 2
    assert "has a study mine already, which was not made from this sweep" in capsys.readouterr().err


@needs_optuna
def test_a_storage_that_cannot_be_used_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder), "--optuna", "study.db"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("elastic-hydra: --optuna study.db: ")
    assert said.endswith("give the URL of a database as sqlite:///study.db\n")
    assert said.count("\n") == 1


def test_without_optuna_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(folder), "--optuna", "sqlite:///x.db"]) == 2
    said = capsys.readouterr().err
    assert said == "elastic-hydra: --optuna needs Optuna, which is not installed: pip install optuna\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say one of --csv, --json and --optuna URL"),
        (["--csv", "--optuna", "sqlite://"], "say one of"),
        (["--csv", "--study", "x"], "go with --optuna"),
        (["--optuna", "sqlite://", "-o", "x"], "leave -o out"),
        (["--csv", "-o", "/nowhere/x"], "/nowhere/x: it cannot be written (No such file or directory): choose another"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder), *words]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_sweep_has_a_head_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = record(tmp_path / "empty")
    assert main(["export", str(folder), "--csv"]) == 0
    assert capsys.readouterr().out.startswith("job,state,value,")
    assert main(["export", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
