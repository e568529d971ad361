"""Hydra's composition, with what the jobs of a sweep have in common done once.

Hydra composes each job twice, for the sweeper's check and for the launcher, and each time reads and merges all files
anew: 65 ms a time. It also means that whoever edits a file while a sweep runs changes the jobs that come later.
"""

from __future__ import annotations

import copy
import functools
import os
import types
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from elastic_hydra.compat import shortcuts
from elastic_hydra.compat.omegaconf import raw_value
from elastic_hydra.compat.patch import with_globals

__all__ = ["compose_to_launch", "foreseen_directories", "remember_composition"]

_REMEMBERED = 64
"""Jobs whose configuration is kept between the sweeper's check and the launch."""


class _SweepRepository(CachingConfigRepository):
    """Reads each file once for the whole sweep; Hydra's own does so for one composition."""

    def __init__(self, cache: dict[str, Any], delegate: Any) -> None:
        self.delegate = copy.copy(delegate)  # it gets sources of its own; to copy all below it takes 6 ms
        self.cache = cache


class _Copies:
    """A repository whose files may be merged into a configuration: that takes their nodes."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def load_config(self, config_path: str) -> Any:
        return copy.deepcopy(self._repository.load_config(config_path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)


def compose_to_launch(loader: ConfigLoader, sweep_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Compose a job, or take what was composed when the sweeper checked it.

    Args:
        loader: Hydra's.
        sweep_config: of the sweep.
        overrides: the job's.
    """
    remembering: Any = vars(loader).get("load_sweep_config")
    if remembering is None:
        return loader.load_sweep_config(sweep_config, list(overrides))
    config: DictConfig = remembering(sweep_config, overrides, to_launch=True)
    return config


def foreseen_directories(loader: ConfigLoader) -> dict[tuple[str, ...], str]:
    """Return, and forget, where the jobs are going to write that the sweeper has checked, by their overrides.

    Those are left out whose directory has their number in it, since they have none yet; so are jobs of sweepers that
    check nothing.

    Args:
        loader: Hydra's.
    """
    found: dict[tuple[str, ...], str] = vars(loader).get("directories", {})
    taken = dict(found)
    found.clear()
    return taken


def _foresee_directory(config: DictConfig) -> str | None:
    """Return where a job without a number is going to write; None: that cannot be said yet."""
    raw = raw_value(config.hydra.sweep, "subdir")
    if "job.num" in str(raw) or "job.id" in str(raw):
        return None
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.cfg = config  # type: ignore[assignment]
    try:
        return os.path.abspath(os.path.join(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)))
    except Exception:  # a resolver may raise anything; who launches the job says what is wrong
        return None
    finally:
        holder.cfg = before


def remember_composition(loader: ConfigLoader) -> None:
    """Have a loader compose the jobs of a sweep from what it has read and merged for earlier ones.

    Args:
        loader: Hydra's; another kind of loader is left alone, and each is where the shortcut is not taken.
    """
    if type(loader) is not ConfigLoaderImpl or "load_sweep_config" in vars(loader):
        return
    if not shortcuts.is_taken("composition"):
        return
    read: dict[str, Any] = {}
    merged: list[tuple[list[Any], DictConfig]] = []
    checked: dict[tuple[str, ...], DictConfig] = {}
    directories: dict[tuple[str, ...], str] = {}
    make_repository = with_globals(
        ConfigLoaderImpl._parse_overrides_and_create_caching_repo,
        CachingConfigRepository=functools.partial(_SweepRepository, read),
    )
    merge, compose = loader._compose_config_from_defaults_list, loader.load_sweep_config

    def merge_once(defaults: list[Any], repo: Any) -> DictConfig:
        """Merge the files of a defaults list: jobs that choose the same ones differ in their overrides only."""
        for known, config in merged:
            if known == defaults:
                return copy.deepcopy(config)
        config = merge(defaults=defaults, repo=_Copies(repo))  # type: ignore[arg-type]
        merged.append((list(defaults), copy.deepcopy(config)))
        del merged[:-8]
        return config

    def compose_once(master_config: DictConfig, sweep_overrides: Sequence[str], to_launch: bool = False) -> DictConfig:
        """Compose a job when the sweeper checks it, and hand out the same when it is launched."""
        key = tuple(sweep_overrides)
        if to_launch and (config := checked.pop(key, None)) is not None:
            OmegaConf.copy_cache(from_config=master_config, to_config=config)  # it may have grown, e.g. by the time
            return config
        config = compose(master_config, list(sweep_overrides))
        if not to_launch and len(checked) < _REMEMBERED:
            checked[key] = copy.deepcopy(config)
        if not to_launch and (directory := _foresee_directory(config)) is not None:
            directories[key] = directory
        return config

    made: Any = loader
    made._parse_overrides_and_create_caching_repo = types.MethodType(make_repository, loader)
    made._compose_config_from_defaults_list = merge_once
    made.load_sweep_config = compose_once
    made.directories = directories
