"""A dry run supposes that Slurm gives what it is asked for, and waits for nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.sweeps.supposed_hosts import gpus_asked_for
from tests.helpers.apps import App


@pytest.mark.parametrize(
    ("keys", "gpus"),
    [
        ({}, 0),
        ({"gpus_per_node": 4}, 4),
        ({"gpus_per_node": 0}, 0),
        ({"gpus_per_node": "a100_80gb:2"}, 2),
        ({"gres": "gpu:3"}, 3),
        ({"gres": "gpu:a100:8"}, 8),
        ({"gres": "tmpdisk:100,gpu:2"}, 2),
        ({"gres": "tmpdisk:100"}, 0),
        ({"gres": "gpu"}, 0),
        ({"additional_parameters": {"gres": "gpu:1"}}, 1),
        ({"additional_parameters": {"gpus": "h100:2"}}, 2),
    ],
)
def test_gpus_are_counted_as_slurm_is_asked_for_them(keys: dict[str, Any], gpus: int) -> None:
    assert gpus_asked_for(HostsConfig(engine="slurm", **keys)) == gpus


@pytest.mark.system
def test_a_dry_run_waits_in_no_queue(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {"srun": '[ "$1" = --test-only ]', "scancel": "true"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    asked = ["hydra/launcher/hosts=slurm", "hydra.launcher.hosts.gpus_per_node=4"]
    jobs = ["hydra.launcher.nproc_per_node=2", "hydra.launcher.parallel=2", "hydra/launcher/numa=node"]
    environ = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    app = App(tmp_path, "    return cfg.x\n")
    finished = app.run(*asked, *jobs, "hydra.launcher.dry_run=true", "+x=1,2", environ=environ)
    assert finished.returncode == 0, finished.output
    assert "No host is asked for in a dry run; each is supposed to have 4 GPUs" in finished.output
    assert "GPUs: 0-1" in finished.output
    assert "GPUs: 2-3" in finished.output
    assert not (finished.folder / "journal.jsonl").exists()
