"""`hydra.launcher.nodes`: how many nodes a job has."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from elastic_hydra.config.problems import Problems

__all__ = ["Nodes", "nodes_of"]


class Nodes(NamedTuple):
    """How many nodes a job has at least and at most."""

    least: int = 1
    most: int = 1


def nodes_of(value: Any, problems: Problems) -> Nodes:
    """Read `2` or `"1:4"`."""
    match = re.fullmatch(r"(-?[0-9]{1,9})(?::(-?[0-9]{1,9}))?", str(value).strip())
    if match is None or isinstance(value, bool):
        problems.add("nodes", value, "must be a number, or 'MIN:MAX'; in YAML with quotes")
        return Nodes()
    nodes = Nodes(int(match[1]), int(match[2] or match[1]))
    if not 1 <= nodes.least <= nodes.most:
        problems.add("nodes", value, "must be 1 or more, and MIN not more than MAX")
        return Nodes()
    return nodes
