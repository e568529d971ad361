"""Files for submitit's launcher of public repositories: by the guide's table they are ours, and ask for the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.hosts.slurm import options_of
from elastic_hydra.sweeps.settings import hosts_keys_of, sweep_settings

# Hydra 1.4 registers what plugins store when it first looks for them; later is too late for its test fixtures.
Plugins.instance()

FILES: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("submitit_launchers.yaml").read_text())
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "slurm.md"
LEFT_OUT = {"output", "error", "open-mode", "export", "requeue"}
"""Additional parameters that the guide says to leave out."""
DIFFERENT = {"nodes", "ntasks-per-node", "job-name", "wckey", "mpi", "signal", *LEFT_OUT}
"""Options that are ours or submitit's own; the signal is not the same one."""
DEFAULT_TIMEOUT = 60
"""Of hydra-submitit-launcher, in minutes."""


def table() -> dict[str, str]:
    """Return what the guide says of each key of submitit's launcher."""
    text = GUIDE.read_text().partition("## From submitit's launcher")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, flags=re.MULTILINE)
    return {key: said for keys, said in rows[1:] for key in re.findall(r"`(\w+)`", keys)}


TABLE = table()
SAME = {key for key, said in TABLE.items() if said.startswith("the same key")}


def translated(keys: dict[str, Any]) -> dict[str, Any]:
    """Write a file for submitit anew, as the guide's table says."""
    hosts = {"timeout_min": DEFAULT_TIMEOUT} | {key: value for key, value in keys.items() if key in SAME}
    hosts |= {key: keys[key] for key in ("name", "signal_delay_s") if key in keys}
    tasks = keys.get("tasks_per_node", 1)
    if keys.get("cpus_per_task"):
        hosts["cpus_per_task"] = keys["cpus_per_task"] * tasks
    if keys.get("gpus_per_task"):
        hosts["gpus_per_node"] = keys["gpus_per_task"] * tasks
    if more := keys.get("additional_parameters"):
        hosts["additional_parameters"] = {key: value for key, value in more.items() if key not in LEFT_OUT}
    attempts = {"retry": {"max_attempts": keys["max_num_timeout"] + 1}} if keys.get("max_num_timeout") else {}
    return {"nproc_per_node": tasks, "nodes": keys.get("nodes", 1), "hosts": hosts, **attempts}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """Compose an app's configuration that has our launcher, with hosts by Slurm."""
    folder = tmp_path_factory.mktemp("conf")
    groups = {"launcher": "elastic", "launcher/hosts": "slurm", "launcher/retry": "preemptible"}
    defaults = [*({f"override hydra/{group}": name} for group, name in groups.items()), "_self_"]
    (folder / "config.yaml").write_text(yaml.safe_dump({"defaults": defaults}))
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose("config", return_hydra_config=True)
    OmegaConf.set_struct(config, False)  # as where Hydra merges what a file says
    return config


def as_mapping(options: Iterable[str]) -> dict[str, str]:
    """Return long options as in a script by their names, the last of each, as Slurm takes them; memory in megabytes."""
    found = {}
    for option in options:
        name, _, value = shlex.split(option)[0].removeprefix("--").partition("=")
        if option.lstrip("'").startswith("--"):
            found[name.replace("_", "-")] = _megabytes(value) if name == "mem" else value
    return {name: value for name, value in found.items() if name not in DIFFERENT}


def _megabytes(size: str) -> str:
    match = re.fullmatch(r"(\d+)(GB|MB|M)", size)
    return size if match is None else str(int(match[1]) * (1024 if match[2] == "GB" else 1))


def test_many_files_are_tried_out() -> None:
    assert len({file["repository"] for file in FILES}) >= 40


def test_the_guide_has_a_word_on_each_key() -> None:
    assert {key for file in FILES for key in file["keys"]} - TABLE.keys() == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file["repository"])
def test_a_launcher_file_for_submitit_asks_slurm_for_the_same(file: dict[str, Any], base: DictConfig) -> None:
    config = OmegaConf.merge(base, {"hydra": {"launcher": translated(file["keys"])}})
    assert isinstance(config, DictConfig)
    keys = hosts_keys_of(sweep_settings(config))
    ours, theirs = as_mapping(map(shlex.quote, options_of(keys))), as_mapping(file["sbatch"])
    tasks = file["keys"].get("tasks_per_node", 1)
    if "cpus-per-task" in theirs:
        theirs["cpus-per-task"] = str(int(theirs["cpus-per-task"]) * tasks)
    if (each := theirs.pop("gpus-per-task", None)) is not None:
        theirs["gpus-per-node"] = str(int(each) * tasks)
    assert ours == theirs
