"""What a command line makes workers execute, and what is said of wrong launch settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from elastic_hydra.apps.program_run import check_settings, in_one_line
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.profiles import profile_folder
from elastic_hydra.jobs.program import Program

Plugins.instance()


PROFILES = str(profile_folder() / "hydra" / "launcher")


def test_scripts_and_modules_are_for_this_interpreter_so_that_warm_workers_run_them(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.touch()
    found = Program.of([str(script), "--lr", "1"])
    assert found == Program("train", sys.executable, (str(script), "--lr", "1"), str(tmp_path))
    assert Program.of([sys.executable, str(script), "--lr", "1"]) == found
    assert Program.of(["-m", "json.tool", "-h"]) == Program(
        "tool", sys.executable, ("-m", "json.tool", "-h"), os.getcwd()
    )


def test_what_a_new_interpreter_alone_can_do_and_other_programs_are_executed() -> None:
    assert Program.of([sys.executable, "-c", "1"]) == Program("python", sys.executable, ("-c", "1"), os.getcwd())
    assert Program.of(["/bin/sh", "-c", "1"]) == Program("sh", "/bin/sh", ("-c", "1"), os.getcwd())


def composed(*overrides: str, name: str = "elastic", folder: str = PROFILES) -> Any:
    with initialize_config_dir(folder, version_base=None):
        return compose(name, overrides=[f"hydra.searchpath=[file://{PROFILES}]", *overrides])


MISTAKES = {
    "nproc_per_nod=4": "nproc_per_nod: there is no such key (did you mean nproc_per_node?); ",
    "retry.max_restart=3": "retry.max_restart: there is no such key (did you mean retry.max_restarts?); ",
    "numa=nodes": "numa=nodes: there is no such profile (did you mean node?); there are core, ",
    "numa=none,node": "numa=none,node: add -m to run it with each of these values, or quote one value: '",
    "retry.max_restarts=x": "retry.max_restarts=x: Value 'x' of type 'str' could not be converted to Integer",
    "nodes": "nodes: is no setting: write KEY=VALUE, and the program behind --",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_what_hydra_says_of_a_setting_becomes_one_line(override: str) -> None:
    with pytest.raises(Exception) as caught:
        composed(override)
    said = in_one_line(caught.value)
    assert said.startswith(MISTAKES[override])
    assert "\n" not in said


FILES = {
    "defaults: [elastic, _self_]\nnproc_per_nod: 2\n": "team.yaml: nproc_per_nod: there is no such key (did you mean "
    "nproc_per_node?); correct it there",
    "defaults: [elastic, _self_]\nretry: {max_restarts: x}\n": "team.yaml: retry.max_restarts: Value 'x' of type 'str' "
    "could not be converted to Integer; correct it there",
}


@pytest.mark.parametrize("text", FILES)
def test_what_hydra_says_of_a_file_becomes_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(text)
    with pytest.raises(Exception) as caught:
        composed(name="team", folder=str(tmp_path))
    assert in_one_line(caught.value) == FILES[text]
    with pytest.raises(Exception) as caught:
        composed(name="nix", folder=str(tmp_path))
    assert in_one_line(caught.value).startswith("--config-name nix: there is no nix.yaml where --config-dir says")


def test_a_setting_that_nothing_reads_is_refused() -> None:
    check_settings(composed("+rendezvous.configs.x=1"))
    with pytest.raises(ConfigError, match=r"parralel=2: there is no such key \(did you mean parallel\?\)"):
        check_settings(composed("+parralel=2"))
    with pytest.raises(ConfigError, match="lacks nodes and more: begin its file with the line `defaults:"):
        check_settings(OmegaConf.create({"nproc_per_node": 2}))
