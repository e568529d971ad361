"""`elastic-hydra stop` and `stacks` where no launcher can be asked; `tests/sweeps/test_hands.py` has the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_hydra.cli.main import main
from elastic_hydra.journal.events import SweepBegan
from tests.cli.recorded import composed, record

HERE = os.uname().nodename


@pytest.mark.parametrize("verb", [["stop"], ["stacks"]])
@pytest.mark.parametrize(
    ("began", "why"),
    [
        ({"host": "elsewhere", "control": "x"}, f"runs on host elsewhere, and this is {HERE}: give the command there"),
        ({"host": HERE}, "has no control socket: its version is older than that, its host has none, or it runs the "),
        (
            {"host": HERE, "control": "nobody's name"},
            "has ended, so nobody can be asked; elastic-hydra status shows the",
        ),
    ],
)
def test_why_a_launcher_cannot_be_asked_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str], began: dict[str, str], why: str
) -> None:
    launch = SweepBegan(pid=7, dir="multirun/1", resume=True, **began)  # type: ignore[arg-type]
    record(tmp_path, launch, composed(tmp_path, 0, "x=1"))
    assert main([*verb, str(tmp_path), "0"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"elastic-hydra: the launcher of multirun/1 (pid 7) {why}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["stop", "nowhere"], "nowhere: there is no such directory"),
        (["stop", "{sweep}", "first"], "JOB=first: must be the number of a job"),
        (["stacks", "{sweep}"], "missing argument 'JOB'"),
        (["stacks", "{sweep}", "-1"], "no such option"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    record(tmp_path)
    assert main([argument.replace("{sweep}", str(tmp_path)) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert why in err
    assert err.count("\n") == 1
