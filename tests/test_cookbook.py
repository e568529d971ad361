"""The apps of the README and the cookbook run by the commands below them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "guides"
PACKAGES = {
    "app": (),
    "accelerate_app": ("accelerate",),
    "trainer_app": ("transformers", "accelerate"),
    "wandb_app": ("wandb",),
    "mlflow_app": ("mlflow",),
}
"""The apps that are run, and what they need."""


def recipes() -> dict[str, tuple[str, str]]:
    """Return code and command of each app of the README and the cookbook, by the name of its file."""
    text = (ROOT / "README.md").read_text() + (GUIDES / "cookbook.md").read_text()
    pattern = r"`(\w+)\.py`:\n\n```python\n(.*?)```\n\n```bash\n(.*?)```"
    return {name: (code, command) for name, code, command in re.findall(pattern, text, flags=re.DOTALL)}


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which `python` is this one."""
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def test_all_recipes_but_that_for_a_debugger_are_run() -> None:
    assert set(recipes()) == {*PACKAGES, "debug_app"}


@pytest.mark.parametrize("name", PACKAGES)
def test_recipe(name: str, tmp_path: Path) -> None:
    for package in PACKAGES[name]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code, command = recipes()[name]
    (tmp_path / f"{name}.py").write_text(code)
    ran = subprocess.run(command, shell=True, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 finished" in ran.stdout
