"""`hydra.launcher` with all its keys, each of its type, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from elastic_hydra.compat.omegaconf import hang_like, is_group, node_at, written
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.tree import HYDRAS, check_tree

__all__ = ["check_resolvable", "first_line", "resolved", "typed"]


def typed(launcher: DictConfig) -> DictConfig:
    """Return the settings of a launcher file, merged into the schema unless they were composed with it.

    Args:
        launcher: `hydra.launcher`. A file that says `_target_` and two keys, as for other launchers, has only these.

    Raises:
        ConfigError: a key is unknown, or a value is not of its type.
    """
    if OmegaConf.get_type(launcher) is ElasticConfig:
        return launcher
    given: Any = OmegaConf.to_container(launcher, resolve=False)
    problems = Problems()
    check_tree(given, ElasticConfig, problems)
    problems.raise_any()
    merged = OmegaConf.structured(ElasticConfig)
    for key, value in given.items():
        if key not in HYDRAS:
            _update(merged, key, _group(launcher, key) if OmegaConf.is_dict(merged[key]) else value, problems)
    problems.raise_any()
    hang_like(merged, launcher)
    assert isinstance(merged, DictConfig)
    return merged


def _group(launcher: DictConfig, key: str) -> Any:
    """Return the keys of a group, also of one that is an interpolation of a node elsewhere."""
    return OmegaConf.to_container(resolved(launcher, key, f"{ROOT}.{key}"), resolve=False)


def resolved(node: DictConfig, name: str, full_key: str) -> Any:
    """Return the value of a key, which may be an interpolation.

    Args:
        node: that has the key.
        name: of the key in it.
        full_key: its name for people.

    Raises:
        ConfigError: the interpolation leads nowhere; the text shows how it was given.
    """
    try:
        return node[name]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{full_key}={written(node, name)}: {first_line(error)}") from error


def _update(merged: DictConfig, key: str, value: Any, problems: Problems) -> None:
    try:
        OmegaConf.update(merged, key, value, merge=True)
    except OmegaConfBaseException as error:
        full_key = str(error.full_key or key)
        for name in full_key.split(".")[1:]:
            value = value[name]
        problems.add(full_key, value, first_line(error))


def check_resolvable(
    settings: DictConfig, problems: Problems, prefix: str = "", names: Iterable[Any] | None = None
) -> None:
    """Find the interpolations below a node that lead nowhere, or to a value of another type.

    Args:
        settings: `hydra.launcher`, or a group in it.
        problems: takes what is wrong.
        prefix: of the keys: the group they are in, with a dot.
        names: of the keys to look at; None: all of the node.
    """
    for name in settings if names is None else names:
        node = node_at(settings, name)
        if is_group(node):
            check_resolvable(node, problems, f"{prefix}{name}.")
            continue
        try:
            value = settings[name]
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            problems.add(
                f"{prefix}{name}", written(settings, name), f"{first_line(error)}; name a key that exists, or a value"
            )


def first_line(error: OmegaConfBaseException) -> str:
    """Return what OmegaConf says, without the types and objects that it lists below."""
    return str(error.msg or error).splitlines()[0]
