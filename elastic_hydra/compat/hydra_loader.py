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
_MERGED = 8
"""Defaults lists whose merged files are kept."""


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


class _Remembering:
    """Composes the jobs of a sweep from what was read and merged for earlier jobs, in the place of a loader's methods.

    Args:
        loader: Hydra's loader, whose methods these are from now on.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.directories: dict[tuple[str, ...], str] = {}
        """The output directories of jobs that the sweeper has checked, by overrides."""
        self._merge, self._compose = loader._compose_config_from_defaults_list, loader.load_sweep_config
        self._merged: list[tuple[list[Any], DictConfig]] = []
        self._checked: dict[tuple[str, ...], DictConfig] = {}
        read: dict[str, Any] = {}
        make_repository = with_globals(
            ConfigLoaderImpl._parse_overrides_and_create_caching_repo,
            CachingConfigRepository=functools.partial(_SweepRepository, read),
        )
        replaced: Any = loader
        replaced._parse_overrides_and_create_caching_repo = types.MethodType(make_repository, loader)
        replaced._compose_config_from_defaults_list = self.merge
        replaced.load_sweep_config = self.compose

    @classmethod
    def of(cls, loader: ConfigLoader) -> _Remembering | None:
        """Return what composes the jobs of a loader; None: the loader itself does."""
        composes = getattr(vars(loader).get("load_sweep_config"), "__self__", None)
        return composes if isinstance(composes, cls) else None

    def merge(self, defaults: list[Any], repo: Any) -> DictConfig:
        """Merge the files of a defaults list once: jobs that choose the same files differ in their overrides only."""
        for earlier, config in self._merged:
            if earlier == defaults:
                return copy.deepcopy(config)
        config = self._merge(defaults=defaults, repo=_Copies(repo))  # type: ignore[arg-type]
        self._merged.append((list(defaults), copy.deepcopy(config)))
        del self._merged[:-_MERGED]
        return config

    def compose(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """Compose a job that the sweeper checks, and keep the configuration for its launch."""
        config, key = self._compose(master_config, list(sweep_overrides)), tuple(sweep_overrides)
        if len(self._checked) < _REMEMBERED:
            self._checked[key] = copy.deepcopy(config)
        if (directory := _foresee_directory(config)) is not None:
            self.directories[key] = directory
        return config

    def compose_to_launch(self, master_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of a job that is launched: the one that was kept, if it was."""
        config = self._checked.pop(tuple(overrides), None)
        if config is None:
            return self._compose(master_config, list(overrides))
        # Resolvers such as `${now:}` may have cached values since the job was composed.
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def remember_composition(loader: ConfigLoader) -> None:
    """Have a loader compose the jobs of a sweep from what it has read and merged for earlier jobs.

    Args:
        loader: Hydra's loader. A loader of another class is left as it is, and so is any loader if the shortcut is
            switched off.
    """
    if type(loader) is not ConfigLoaderImpl or "load_sweep_config" in vars(loader):
        return
    if shortcuts.is_taken("composition"):
        _Remembering(loader)


def compose_to_launch(loader: ConfigLoader, sweep_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Compose a job, or take the configuration that was composed when the sweeper checked it.

    Args:
        loader: Hydra's loader.
        sweep_config: the sweep's configuration.
        overrides: the job's overrides.

    Returns:
        the job's configuration.
    """
    if (remembering := _Remembering.of(loader)) is None:
        return loader.load_sweep_config(sweep_config, list(overrides))
    return remembering.compose_to_launch(sweep_config, overrides)


def foreseen_directories(loader: ConfigLoader) -> dict[tuple[str, ...], str]:
    """Return, and forget, the output directories of the jobs that the sweeper has checked, by overrides.

    Jobs whose directory depends on their number are left out, since they have no number yet. Some sweepers do not
    check their jobs: then there are no directories.

    Args:
        loader: Hydra's loader.
    """
    if (remembering := _Remembering.of(loader)) is None:
        return {}
    taken, remembering.directories = remembering.directories, {}
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
