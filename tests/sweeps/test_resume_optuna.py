"""A study that Optuna keeps in its storage, and a sweep that we keep in our journal, resumed together."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml

from elastic_hydra.journal import reader, writer
from tests.helpers.apps import App
from tests.helpers.packages import needs

pytestmark = [pytest.mark.system, needs("hydra_plugins.hydra_optuna_sweeper", "optuna", extra="optuna")]

BODY = """
with open("ran", "a") as file:
    file.write(f"{HydraConfig.get().job.num} ")
if Path("stop").exists() and HydraConfig.get().job.num == 3:
    print("waiting", flush=True)
    time.sleep(600)
return (cfg.x - 2.0) ** 2
"""


STUDY = ["hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=5", "+x=interval(0.0,10.0)"]


def stopped_in_its_fourth_trial(app: App, tmp_path: Path, *overrides: str) -> None:
    (tmp_path / "stop").touch()
    with app.started(*overrides) as sweep:
        sweep.wait_for("waiting")
        sweep.signal(signal.SIGKILL)
        sweep.wait_for_launcher()
        assert sweep.survivors() == []
    (tmp_path / "stop").unlink()
    assert (tmp_path / "ran").read_text().split() == ["0", "1", "2", "3"]
    (tmp_path / "ran").unlink()


def states(folder: Path) -> list[str]:
    return [job.state for _, job in sorted(reader.read(folder / writer.FILE_NAME).items())]


def test_a_study_in_a_storage_goes_on_and_no_directory_is_used_twice(tmp_path: Path) -> None:
    import optuna

    try:
        optuna.storages.RDBStorage("sqlite://")
    except Exception as error:  # an old Optuna with a newer SQLAlchemy fails in many ways
        pytest.skip(f"this Optuna's storages do not work with the installed SQLAlchemy: {error!r}")
    storage = f"sqlite:///{tmp_path}/study.db"
    overrides = [*STUDY, f"hydra.sweeper.storage='{storage}'", "hydra.sweeper.study_name=s"]
    app = App(tmp_path, BODY)
    stopped_in_its_fourth_trial(app, tmp_path, *overrides)
    resumed = app.run(*overrides, "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    # Optuna does not ask for the trial again in which the launcher was killed; five more follow.
    assert (tmp_path / "ran").read_text().split() == ["4", "5", "6", "7", "8"]
    assert states(resumed.folder) == ["finished"] * 3 + ["started"] + ["finished"] * 5
    for num, job in reader.read(resumed.folder / writer.FILE_NAME).items():
        ran = yaml.safe_load((resumed.folder / str(num) / ".hydra" / "overrides.yaml").read_text())
        assert ran == job.overrides
    study = optuna.load_study(study_name="s", storage=storage)
    values = [trial.value for trial in study.trials if trial.value is not None]
    jobs = reader.read(resumed.folder / writer.FILE_NAME).values()
    journaled = [job.value.load() for job in jobs if job.value is not None]
    assert sorted(values) == sorted(journaled)
    best = yaml.safe_load((resumed.folder / "optimization_results.yaml").read_text())["best_value"]
    assert best == pytest.approx(min(values))


def test_a_seeded_study_without_storage_is_gone_through_again_and_recorded_values_count(tmp_path: Path) -> None:
    app = App(tmp_path, BODY)
    overrides = [*STUDY, "hydra.sweeper.sampler.seed=1"]
    stopped_in_its_fourth_trial(app, tmp_path, *overrides)
    resumed = app.run(*overrides, "hydra.launcher.resume=true")
    assert resumed.returncode == 0, resumed.output
    assert (tmp_path / "ran").read_text().split() == ["3", "4"]
    assert states(resumed.folder) == ["finished"] * 5
    undisturbed = App(tmp_path, BODY)
    with undisturbed.started(*overrides, name="undisturbed") as sweep:
        other = sweep.finish()
    results = [yaml.safe_load((f.folder / "optimization_results.yaml").read_text()) for f in (resumed, other)]
    assert results[0] == results[1]
