"""Sweepers other than Hydra's own that drive the launcher."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.helpers.apps import App, Finished
from tests.helpers.packages import needs

pytestmark = [pytest.mark.system, needs("hydra_plugins.hydra_optuna_sweeper", extra="optuna")]

BODY = """
    if cfg.x > 5:
        raise ValueError("too far")
    return (cfg.x - 2) ** 2 if os.environ["RANK"] == "0" else -100.0
"""

OPTUNA = [
    "hydra/sweeper=optuna",
    "hydra.sweeper.sampler.seed=1",
    "hydra.sweeper.n_jobs=2",
    "hydra.launcher.nproc_per_node=2",
]


def test_optuna_gets_one_value_per_trial_and_it_is_rank_0_s(tmp_path: Path) -> None:
    finished = App(tmp_path, BODY).run(*OPTUNA, "hydra.sweeper.n_trials=4", "+x=choice(0,1)")
    assert finished.returncode == 0, finished.output
    assert _best(finished) in (1.0, 4.0)  # rank 1 returns less
    assert [call[0] for call in finished.calls("job_start")] == ["0", "1", "2", "3"]


def test_a_failed_job_is_a_failed_trial_and_the_study_goes_on(tmp_path: Path) -> None:
    most = "hydra.sweeper.max_failure_rate=1.0"
    finished = App(tmp_path, BODY).run(*OPTUNA, most, "hydra.sweeper.n_trials=8", "+x=choice(3,6)")
    assert finished.returncode == 0, finished.output
    assert _best(finished) == 1.0
    ends = [call[1] for call in finished.calls("job_end")]
    assert len(ends) == 8
    assert set(ends) == {"COMPLETED", "FAILED"}


def _best(finished: Finished) -> float:
    return float(yaml.safe_load((finished.folder / "optimization_results.yaml").read_text())["best_value"])


def test_too_many_failed_trials_end_the_study_with_the_job_s_exception(tmp_path: Path) -> None:
    finished = App(tmp_path, BODY).run(*OPTUNA, "hydra.sweeper.n_trials=4", "+x=choice(6,7,8,9)")
    assert finished.returncode == 1
    assert "ValueError: too far" in finished.output
    assert not (finished.folder / "2").exists()
