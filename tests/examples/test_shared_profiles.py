"""The example of a team: profiles in an installed package, selected by an app elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.examples.pages import EXAMPLES, commands, run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the import path into which the team's package is installed."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([*pip, str(EXAMPLES / "shared_profiles")], check=True, capture_output=True, text=True)
    return folder


def test_an_app_runs_by_the_profiles_of_the_package(installed: Path, tmp_path: Path) -> None:
    for command in commands("shared_profiles"):
        output = run(command, tmp_path, "hydra.sweep.dir=sweep", PYTHONPATH=str(installed))
        rows = [line.split() for line in output.splitlines() if line.startswith("#")]
        # Rank 0's sum over two workers: without a profile one process would return x.
        assert [row[-2:] for row in rows[-2:]] == [["2", "x=1"], ["4", "x=2"]]


def test_the_profiles_select_what_they_say(installed: Path, tmp_path: Path) -> None:
    show = "python examples/shared_profiles/app/train.py --cfg hydra -p hydra.launcher launch=shared_server"
    settings = yaml.safe_load(run(show, tmp_path, PYTHONPATH=str(installed)))
    assert settings["parallel"] == 2
    assert settings["retry"]["max_restarts"] > 0
    assert settings["watch"]["progress_limit"] > 0
    assert settings["watch"]["action"] == "restart"
