"""The example with Lightning: its Trainer takes its place in the worker group, and goes on from its checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.pages import commands, run
from tests.helpers.packages import needs

pytestmark = [pytest.mark.system, needs("sklearn", "pytorch_lightning", extra="examples,lightning")]


def test_each_job_trains_in_two_workers(tmp_path: Path) -> None:
    (command,) = commands("lightning")
    output = run(command, tmp_path, "accelerator=cpu", "epochs=3", "hydra.sweep.dir=sweep")
    assert "2 finished" in output
    values = re.findall(r"^#\d +finished .* (0\.\d+) +lr=", output, re.MULTILINE)
    assert [float(value) > 0.8 for value in values] == [True, True]
    for job in ("0", "1"):
        logs = tmp_path / "sweep" / job / "logs" / "restart_0"
        # One process group of two, and not two trainings of one process each.
        assert "Starting with 2 processes" in "".join(path.read_text() for path in logs.glob("rank_0/*.log"))
        assert (tmp_path / "sweep" / job / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    command = "python examples/lightning/train.py hydra.run.dir=run accelerator=cpu 2>&1"
    run(command, tmp_path, "epochs=1")
    assert "Restored all states from the checkpoint" in run(command, tmp_path, "epochs=2")
