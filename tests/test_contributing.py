"""CONTRIBUTING.md names files, folders and commands that are there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_paths_exist() -> None:
    named = re.findall(r"`((?:elastic_hydra|hydra_plugins|tests|conf|docs|\.ci)/[^` ]*)`", TEXT)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_programs_of_the_project_exist() -> None:
    modules = re.findall(r"python -m (tests\.\w+)", TEXT)
    assert {"tests.mutation", "tests.versions"} <= set(modules)
    assert [module for module in modules if find_spec(f"{module}.__main__") is None] == []
