"""The tree of keys against its schema: finds unknown keys, values in place of groups, and values no key can have."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from elastic_hydra.config.errors import nearest
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.values import LARGEST

__all__ = ["HYDRAS", "as_schema", "check_tree"]

_T = TypeVar("_T")

_GROUPS_WITH_PROFILES = ("hosts", "rendezvous", "numa", "retry", "watch", "logs")
HYDRAS = ("_recursive_", "_convert_")
"""Keys that Hydra's `instantiate` reads and removes; a launcher file of the user's may have them."""


def check_tree(settings: Mapping[str, Any], schema: type, problems: Problems, prefix: str = "") -> None:
    """Check everything that needs no knowledge of a single key.

    Hydra itself refuses unknown keys. It lets those pass that are given with `+`, and those of a file that does not
    use the schema.

    Args:
        settings: plain values; a text that begins with `${` is an interpolation, and passes.
        schema: the class that has the keys.
        problems: takes what is wrong.
        prefix: the group that the keys are in, with a dot; empty: none.
    """
    known = {f.name: f for f in dataclasses.fields(schema)}
    for key, value in settings.items():
        if key not in known:
            if key not in HYDRAS:
                there_are = ", ".join(name for name in known if not name.startswith("_"))
                hint = nearest(str(key), known)
                problems.add(f"{prefix}{key}", value, f"there is no such key{hint}; there are {there_are}")
            continue
        group = known[key].default_factory
        if isinstance(group, type) and dataclasses.is_dataclass(group):
            _check_group(f"{prefix}{key}", value, group, problems)
        else:
            may_be_null = type(None) in typing.get_args(known[key].type)
            _check_leaf(f"{prefix}{key}", value, may_be_null, problems)


def _check_group(key: str, value: Any, schema: type, problems: Problems) -> None:
    if isinstance(value, Mapping):
        check_tree(value, schema, problems, f"{key}.")
    elif not _is_interpolation(value):
        names = ", ".join(f.name for f in dataclasses.fields(schema))
        choose = f"; a profile is chosen with hydra/launcher/{key}=NAME" if key in _GROUPS_WITH_PROFILES else ""
        problems.add(key, value, f"must be a group of keys: {names}{choose}")


def _check_leaf(key: str, value: Any, may_be_null: bool, problems: Problems) -> None:
    if value == "???":
        problems.add(key, value, "has no value yet, and needs one")
    elif isinstance(value, float) and not math.isfinite(value):
        problems.add(key, value, "must be a finite number" + (", or null" if may_be_null else ""))
    elif isinstance(value, (int, float)) and not key.endswith("memory_limit") and abs(value) > LARGEST:
        problems.add(key, value, f"must not be more than {LARGEST}")


def as_schema(schema: type[_T], settings: Mapping[str, Any]) -> _T:
    """Return plain values as an object of their schema's class. Groups become objects of their classes.

    Args:
        schema: the class that has the keys.
        settings: plain values that have passed `check_tree`.
    """
    values = {}
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        if field.name in settings:
            group = field.default_factory
            is_group = isinstance(group, type) and dataclasses.is_dataclass(group)
            value = settings[field.name]
            values[field.name] = as_schema(group, value) if is_group else value  # type: ignore[arg-type]
    return schema(**values)


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")
