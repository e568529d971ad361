"""Shortcuts through Hydra are taken or left, all or each of them; what comes out is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.conf import HydraConf, JobConf
from hydra.core import utils
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from elastic_hydra.compat import hydra_run_job, shortcuts
from elastic_hydra.compat.hydra import set_hydra_config
from elastic_hydra.compat.hydra_loader import remember_composition
from elastic_hydra.compat.shortcuts import SHORTCUTS, VARIABLE

APP = """
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

@hydra.main(version_base=None, config_path=None)
def main(config):
    return f"{config.x} in {HydraConfig.get().job.num}: {OmegaConf.to_container(config)}"

main()
"""


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (None, set(SHORTCUTS)),
        ("", set(SHORTCUTS)),
        ("1", set(SHORTCUTS)),
        ("0", set()),
        ("-run_job", set(SHORTCUTS) - {"run_job"}),
        ("-run_job, -composition", set(SHORTCUTS) - {"run_job", "composition"}),
    ],
)
def test_the_variable_says_which_are_taken(monkeypatch: pytest.MonkeyPatch, said: str | None, taken: set[str]) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(VARIABLE, said)
    shortcuts.check_variable()
    assert {name for name in SHORTCUTS if shortcuts.is_taken(name)} == taken


@pytest.mark.parametrize("said", ["2", "off", "run_job", "-run_job,-compositions", "0,-run_job"])
def test_a_value_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(ValueError, match=f"{VARIABLE}={said}: must be 0 .*-composition"):
        shortcuts.check_variable()


@pytest.fixture
def hydra_config() -> Iterator[None]:
    """Have `HydraConfig` forget what a test sets."""
    yield
    HydraConfig.instance().cfg = None


def is_taken_by_the_loader() -> bool:
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(None))
    remember_composition(loader)
    return "load_sweep_config" in vars(loader)


def is_taken_by_hydra_config() -> bool:
    config = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf(job=JobConf(num=3)))})
    set_hydra_config(config)
    assert HydraConfig.get().job.num == 3
    return HydraConfig.get() is config.hydra


def is_taken_by_run_job() -> bool:
    class HydrasOwn(Exception):
        """Hydra's function was called."""

    def hydras_own(**_: Any) -> None:
        raise HydrasOwn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "run_job", hydras_own)
        try:
            hydra_run_job.run_job()
        except HydrasOwn:
            return False
        except TypeError:  # a copy of Hydra's function misses its arguments
            return True
    raise AssertionError("one of them must have been called")


LOOKS = {
    "composition": is_taken_by_the_loader,
    "hydra_config": is_taken_by_hydra_config,
    "run_job": is_taken_by_run_job,
}


@pytest.mark.usefixtures("hydra_config")
@pytest.mark.parametrize("name", SHORTCUTS)
def test_each_is_taken_unless_it_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    others = ",".join(f"-{other}" for other in SHORTCUTS if other != name)
    for said, taken in {"1": True, "0": False, f"-{name}": False, others: True}.items():
        monkeypatch.setenv(VARIABLE, said)
        assert LOOKS[name]() is taken, said


def run(folder: Path, said: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    command = [sys.executable, "app.py", "-m", "hydra/launcher=elastic", "hydra.sweep.dir=out", "+x=1,2"]
    return subprocess.run(command, cwd=folder, env={**os.environ, VARIABLE: said}, capture_output=True, text=True)


@pytest.mark.system
@pytest.mark.smoke
def test_a_sweep_without_them_does_the_same(tmp_path: Path) -> None:
    results = {}
    for said in ("0", "1", *(f"-{name}" for name in SHORTCUTS)):
        folder = tmp_path / said
        folder.mkdir()
        ended = run(folder, said)
        assert ended.returncode == 0, ended.stderr
        rows = (folder / "out" / "results.csv").read_text().splitlines()
        files = sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))
        texts = [(folder / name).read_text().replace(str(folder), "") for name in files]
        results[said] = [[row.split(",")[:3] for row in rows], files, texts]
    assert all(result == results["0"] for result in results.values())


@pytest.mark.system
def test_a_sweep_with_a_value_that_means_nothing_is_refused_before_it_starts(tmp_path: Path) -> None:
    ended = run(tmp_path, "no")
    assert ended.returncode == 2
    assert f"{VARIABLE}=no: must be 0" in ended.stderr
    assert not (tmp_path / "out").exists()
