"""Composition that remembers gives what composition gives that does not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat.hydra_loader import compose_to_launch, remember_composition
from elastic_hydra.compat.shortcuts import VARIABLE

FILES = {
    "config.yaml": "defaults:\n  - model: small\n  - _self_\nlr: 0.1\nname: ${model.kind}-${now:%f}\n",
    "model/small.yaml": "kind: small\nlayers: [1, 2]\n",
    "model/large.yaml": "kind: large\nlayers: [3]\nextra: 1\n",
}
SWEEP = (["lr=1"], ["lr=2", "model=large"], ["lr=1"], ["model.layers=[7]"], ["model=large", "+new=1"], ["lr=3"])


@pytest.fixture(autouse=True)
def shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the shortcut taken that is tested here, also where the suite runs without."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "model").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    setup_globals()
    yield tmp_path
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def loader(folder: Path) -> ConfigLoaderImpl:
    return ConfigLoaderImpl(config_search_path=create_config_search_path(f"file://{folder}"))


def master(loader: ConfigLoaderImpl) -> DictConfig:
    return loader.load_configuration("config", ["hydra/launcher=elastic"], RunMode.MULTIRUN)


def plain(config: DictConfig) -> object:
    return OmegaConf.to_container(config, resolve=False)


def test_the_same_comes_out(folder: Path) -> None:
    usual, remembering = loader(folder), loader(folder)
    config = master(usual)
    remember_composition(remembering)
    remembering.load_sweep_config(config, SWEEP[0])  # as the sweeper's check does
    assert config.name  # its time is from now on that of all jobs
    for overrides in SWEEP:
        expected = usual.load_sweep_config(config, list(overrides))
        to_launch = partial(compose_to_launch, remembering)
        # For the sweeper's check, for the launch, and for another job that looks the same.
        for load in (remembering.load_sweep_config, to_launch, to_launch):
            found = load(config, list(overrides))
            assert plain(found) == plain(expected)
            assert found.name == expected.name, "resolvers that remember their value have the sweep's"
            assert OmegaConf.get_type(found, "hydra") is OmegaConf.get_type(expected, "hydra")
            assert OmegaConf.is_struct(found)
            found.model.layers.append(99)  # what is done to one job's configuration stays there
            found.hydra.job.num = 5


def test_a_file_that_is_edited_during_a_sweep_changes_nothing(folder: Path) -> None:
    remembering = loader(folder)
    remember_composition(remembering)
    config = master(remembering)
    remembering.load_sweep_config(config, ["lr=1"])
    remembering.load_sweep_config(config, ["model=large"])
    (folder / "config.yaml").write_text(FILES["config.yaml"].replace("lr: 0.1", "lr: 0.7"))
    (folder / "model" / "large.yaml").write_text("kind: edited\n")
    found = remembering.load_sweep_config(config, ["model=large", "+new=2"])
    assert (found.lr, found.model.kind, found.new) == (0.1, "large", 2)


def test_a_mistake_is_a_mistake_each_time(folder: Path) -> None:
    remembering = loader(folder)
    remember_composition(remembering)
    config = master(remembering)
    messages = []
    for _ in range(2):
        with pytest.raises(Exception, match="no_such_key") as raised:
            remembering.load_sweep_config(config, ["no_such_key=1"])
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
