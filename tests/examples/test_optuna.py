"""The example with Optuna: a search in a file, for an app that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.pages import commands, run
from tests.helpers.packages import needs

pytestmark = [pytest.mark.system, needs("sklearn", "hydra_plugins.hydra_optuna_sweeper", extra="examples,optuna")]


def test_trials_are_jobs_of_one_sweep(tmp_path: Path) -> None:
    (command,) = commands("optuna")
    short = ["device=cpu", "epochs=1", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=sweep"]
    output = run(command, tmp_path, *short)
    assert "3 finished" in output
    assert "value, best first" in output
    for trial in ("0", "1", "2"):
        assert (tmp_path / "sweep" / trial / "train.rank1.log").is_file()
    assert "best_value" in (tmp_path / "sweep" / "optimization_results.yaml").read_text()
