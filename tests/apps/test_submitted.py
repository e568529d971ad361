"""What is said when Slurm takes a launcher, but does not answer afterwards; there is no Slurm here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from elastic_hydra.apps import submitted
from elastic_hydra.apps.relaunch import Relaunch
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.hosts.slurm_commands import Answer


def never(argv: Sequence[str], **_: Any) -> Answer:
    raise TimeoutError(f"{argv[0]} has not answered: try again")


@pytest.mark.parametrize(
    ("release", "why"),
    [
        (never, "scontrol has not answered"),
        (lambda argv, **_: Answer(1, "", "Access denied"), "Access denied"),
        (lambda argv, **_: Answer(1, "", ""), "scontrol has ended with 1"),
    ],
)
def test_a_job_that_stays_held_is_named_and_how_to_release_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: Any, why: str
) -> None:
    def answer_of(argv: Sequence[str], *_: Any, **__: Any) -> Answer:
        return Answer(0, "7", "") if argv[0] == "sbatch" else release(argv)

    monkeypatch.setattr(shutil, "which", str)
    monkeypatch.setattr(submitted, "answer_of", answer_of)
    settings, folder = OmegaConf.structured(ElasticConfig), tmp_path / "sweep"
    relaunch = Relaunch(settings, "app", [sys.executable, "app.py"], ["-m"], "hydra.sweep.dir", folder, "sweep", False)
    with pytest.raises(ConfigError) as refused:
        submitted.submit(relaunch)
    assert str(refused.value).endswith(f"Slurm job 7 is submitted, but held: {why}. Say `scontrol release 7`")
    assert json.loads((folder / "journal.jsonl").read_text())["slurm_job"] == "7"
