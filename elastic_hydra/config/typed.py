"""`hydra.launcher` with all its keys, each of its type, whichever file the settings come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from elastic_hydra.compat.omegaconf import is_mapping_node, node_at, parent_of, raw_value, set_parent
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import ROOT, Problems
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.tree import HYDRAS, check_tree

__all__ = ["check_resolvable", "first_line", "resolved", "typed"]


def typed(launcher: DictConfig) -> DictConfig:
    """Return the settings of a launcher, merged into the schema unless Hydra has composed them with it.

    Args:
        launcher: `hydra.launcher`. A user's file that does not use the schema, as is usual for other launchers, may
            have `_target_` and two more keys only.

    Returns:
        settings with all keys of the schema.

    Raises:
        ConfigError: a key is unknown, or a value is not of its type.
    """
    if OmegaConf.get_type(launcher) is ElasticConfig:
        return launcher
    values: Any = OmegaConf.to_container(launcher, resolve=False)
    problems = Problems()
    check_tree(values, ElasticConfig, problems)
    problems.raise_any()
    merged = OmegaConf.structured(ElasticConfig)
    for key, value in values.items():
        if key not in HYDRAS:
            _update(merged, key, _group(launcher, key) if OmegaConf.is_dict(merged[key]) else value, problems)
    problems.raise_any()
    set_parent(merged, parent_of(launcher))
    assert isinstance(merged, DictConfig)
    return merged


def _group(launcher: DictConfig, key: str) -> Any:
    """Return the keys of a group as plain values. The group may be an interpolation."""
    return OmegaConf.to_container(resolved(launcher, key, f"{ROOT}.{key}"), resolve=False)


def resolved(node: DictConfig, name: str, full_key: str) -> Any:
    """Return the value of a key, which may be an interpolation.

    Args:
        node: the configuration that has the key.
        name: the key's name in this configuration.
        full_key: the key's full name, for people.

    Raises:
        ConfigError: the interpolation leads nowhere; the text shows the interpolation.
    """
    try:
        return node[name]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{full_key}={raw_value(node, name)}: {first_line(error)}") from error


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
    """Find the interpolations in a configuration that lead nowhere, or to a value of another type.

    Args:
        settings: `hydra.launcher`, or a group in it.
        problems: takes what is wrong.
        prefix: the group that the keys are in, with a dot; empty: none.
        names: names of the keys to check; None: all keys.
    """
    for name in settings if names is None else names:
        node = node_at(settings, name)
        if is_mapping_node(node):
            check_resolvable(node, problems, f"{prefix}{name}.")
            continue
        try:
            value = settings[name]
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException as error:
            problems.add(
                f"{prefix}{name}", raw_value(settings, name), f"{first_line(error)}; name a key that exists, or a value"
            )


def first_line(error: OmegaConfBaseException) -> str:
    """Return the first line of OmegaConf's message. Its further lines list types and objects."""
    return str(error.msg or error).splitlines()[0]
