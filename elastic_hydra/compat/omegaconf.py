"""What OmegaConf has no public name for: nodes as they are written, and the tree that they hang in."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from omegaconf.basecontainer import BaseContainer

__all__ = ["hang_below", "hang_like", "is_group", "node_at", "written"]


def node_at(config: BaseContainer, key: Any) -> Any:
    """Return the node of a key, without looking where an interpolation leads."""
    return config._get_node(key)


def written(config: BaseContainer, key: Any) -> Any:
    """Return the value of a key as it is written: an interpolation as its text."""
    return node_at(config, key)._value()


def is_group(node: Any) -> bool:
    """Whether a node is a mapping that is written there, and neither an interpolation nor null."""
    return isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none()


def hang_below(config: Any, parent: Any) -> None:
    """Have the interpolations of a configuration look in another one."""
    config._set_parent(parent)


def hang_like(config: Any, model: Any) -> None:
    """Have the interpolations of a configuration look where those of another one look."""
    config._set_parent(model._get_parent())
