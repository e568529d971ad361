"""Which names in a source are private, and which are those of a class around them."""

from __future__ import annotations

import ast

__all__ = ["is_own_class", "is_private"]

DOCUMENTED = {"_exit", "_fields", "_target_"}
"""Names that begin with an underscore and are public all the same: of `os`, of named tuples, of Hydra."""


def is_private(name: str) -> bool:
    """Whether a name is one that its owner may change."""
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def is_own_class(node: ast.expr) -> bool:
    """Whether an attribute is looked up on an instance of the class around it, which may be a subclass of torch's."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")
