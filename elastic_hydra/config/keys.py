"""What all classes of configuration keys have in common."""

# ruff: noqa: UP006, UP035 (OmegaConf reads annotations at run time, on Python 3.10 too)

import dataclasses
from typing import Type, TypeVar

__all__ = ["names_its_keys"]

T = TypeVar("T")


def names_its_keys(cls: Type[T]) -> Type[T]:
    """Make OmegaConf's error for an unknown key list the known keys.

    The error prints the name of the class, so the keys become a part of this name.
    """
    keys = sorted(f.name for f in dataclasses.fields(cls) if not f.name.startswith("_"))  # type: ignore[arg-type]
    cls.__name__ += f", which has: {', '.join(keys)}"
    return cls
