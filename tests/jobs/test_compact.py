"""A packed return is the one that Hydra made, to everybody who looks."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from elastic_hydra.jobs.compact import CompactReturn
from elastic_hydra.supervisor.pickles import EVERYTHING


@dataclass
class Settings:
    """Of a job."""

    lr: float = 0.5


def made() -> JobReturn:
    hydra = OmegaConf.create({"hydra": {"job": {"num": 3}, "big": ["x" * 100] * 100}})
    return JobReturn(["lr=1"], OmegaConf.structured(Settings), hydra, "/here", "task", JobStatus.COMPLETED, 7)


def test_everything_is_there() -> None:
    packed = CompactReturn.of(made(), main=EVERYTHING)
    assert isinstance(packed, JobReturn)
    assert (packed.overrides, packed.working_dir, packed.task_name) == (["lr=1"], "/here", "task")
    assert (packed.status, packed.return_value) == (JobStatus.COMPLETED, 7)
    assert packed.cfg == made().cfg
    assert OmegaConf.get_type(packed.cfg) is Settings
    assert packed.hydra_cfg == made().hydra_cfg


def test_it_is_small_until_somebody_looks_and_survives_a_journey() -> None:
    packed = pickle.loads(pickle.dumps(CompactReturn.of(made(), main=EVERYTHING)))
    assert len(pickle.dumps(packed)) < 2000
    assert packed.hydra_cfg.hydra.big[0] == "x" * 100


def test_what_is_changed_stays_changed() -> None:
    packed = CompactReturn.of(made(), main=EVERYTHING)
    assert packed.cfg is not None
    packed.cfg.lr = 0.25
    packed.hydra_cfg = None
    assert (packed.cfg.lr, packed.hydra_cfg) == (0.25, None)
