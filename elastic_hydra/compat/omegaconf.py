"""What OmegaConf has no public name for: nodes as they are written, and the configurations that contain them."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from omegaconf.basecontainer import BaseContainer

__all__ = ["is_mapping_node", "node_at", "parent_of", "raw_value", "set_parent"]


def node_at(config: BaseContainer, key: Any) -> Any:
    """Return the node of a key, without following an interpolation."""
    return config._get_node(key)


def raw_value(config: BaseContainer, key: Any) -> Any:
    """Return the value of a key as it is written: an interpolation as its text."""
    return node_at(config, key)._value()


def is_mapping_node(node: Any) -> bool:
    """Whether a node is itself a mapping, and neither an interpolation nor null."""
    return isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none()


def parent_of(config: Any) -> Any:
    """Return the configuration that contains another one, where its interpolations look; None: nothing contains it."""
    return config._get_parent()


def set_parent(config: Any, parent: Any) -> None:
    """Have the interpolations of a configuration look in another one, as if that one contained it."""
    config._set_parent(parent)
