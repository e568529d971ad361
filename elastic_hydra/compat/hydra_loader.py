"""Hydra's composition, but what the jobs of a sweep have in common is read and merged only once.

Hydra composes each job twice, for the sweeper's check and for the launcher. Each time it reads and merges all files
anew, which takes 65 ms. Moreover, whoever edits a file while a sweep runs would change the jobs that come later.
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
    """Reads each file once for the whole sweep. Hydra's own repository does so for one composition."""

    def __init__(self, cache: dict[str, Any], delegate: Any) -> None:
        self.delegate = copy.copy(delegate)  # a shallow copy, since a deep one takes 6 ms
        self.cache = cache


class _Copies:
    """A repository that hands out copies of its files: merging moves the nodes of a file into another configuration."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def load_config(self, config_path: str) -> Any:
        return copy.deepcopy(self._repository.load_config(config_path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)


def compose_to_launch(loader: ConfigLoader, sweep_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Compose a job, or take the configuration that was composed when the sweeper checked it.

    Args:
        loader: Hydra's loader.
        sweep_config: the sweep's configuration.
        overrides: the job's overrides.

    Returns:
        the job's configuration.
    """
    remembering: Any = vars(loader).get("load_sweep_config")
    if remembering is None:
        return loader.load_sweep_config(sweep_config, list(overrides))
    config: DictConfig = remembering(sweep_config, overrides, to_launch=True)
    return config


def foreseen_directories(loader: ConfigLoader) -> dict[tuple[str, ...], str]:
    """Return, and forget, the output directories of the jobs that the sweeper has checked, by overrides.

    Jobs whose directory depends on their number are left out, since they have no number yet. Some sweepers do not
    check their jobs: then there are no directories.

    Args:
        loader: Hydra's loader.
    """
    directories: dict[tuple[str, ...], str] = vars(loader).get("directories", {})
    taken = dict(directories)
    directories.clear()
    return taken


def _foresee_directory(config: DictConfig) -> str | None:
    """Return the directory that a job without a number will write to; None: it is not known yet."""
    raw = raw_value(config.hydra.sweep, "subdir")
    if "job.num" in str(raw) or "job.id" in str(raw):
        return None
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.cfg = config  # type: ignore[assignment]
    try:
        return os.path.abspath(os.path.join(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)))
    except Exception:  # a resolver may raise anything; the launcher says what is wrong when it starts the job
        return None
    finally:
        holder.cfg = before


def remember_composition(loader: ConfigLoader) -> None:
    """Have a loader compose the jobs of a sweep from what it has read and merged for earlier jobs.

    Args:
        loader: Hydra's loader. A loader of another class is left as it is, and so is any loader if the shortcut is
            switched off.
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
        """Merge the files of a defaults list once: jobs that choose the same files differ in their overrides only."""
        for earlier, config in merged:
            if earlier == defaults:
                return copy.deepcopy(config)
        config = merge(defaults=defaults, repo=_Copies(repo))  # type: ignore[arg-type]
        merged.append((list(defaults), copy.deepcopy(config)))
        del merged[:-8]
        return config

    def compose_once(master_config: DictConfig, sweep_overrides: Sequence[str], to_launch: bool = False) -> DictConfig:
        """Compose a job when the sweeper checks it, and return the same configuration when the job is launched."""
        key = tuple(sweep_overrides)
        if to_launch and (config := checked.pop(key, None)) is not None:
            # Resolvers such as `${now:}` may have cached values since the job was composed.
            OmegaConf.copy_cache(from_config=master_config, to_config=config)
            return config
        config = compose(master_config, list(sweep_overrides))
        if not to_launch and len(checked) < _REMEMBERED:
            checked[key] = copy.deepcopy(config)
        if not to_launch and (directory := _foresee_directory(config)) is not None:
            directories[key] = directory
        return config

    remembering: Any = loader
    remembering._parse_overrides_and_create_caching_repo = types.MethodType(make_repository, loader)
    remembering._compose_config_from_defaults_list = merge_once
    remembering.load_sweep_config = compose_once
    remembering.directories = directories
