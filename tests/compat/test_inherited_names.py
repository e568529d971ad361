"""Classes of ours that extend classes of others use those private names of theirs that `elastic_hydra.compat` lists."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import signal
import textwrap
from collections.abc import Iterator

import pytest
from torch.distributed.elastic.multiprocessing import PContext

import elastic_hydra
from elastic_hydra.compat.torch import INHERITED
from tests.compat.names import is_own_class, is_private

OTHERS = ("torch", "hydra", "omegaconf")
# Modules of ours that import these can be imported only where the extra is installed that has them.
EXTRAS = ("jinja2", "optuna", "plotly", "ray")


def bases_of(cls: type) -> list[type]:
    """Return the classes of others that a class extends."""
    return [base for base in cls.__mro__ if base.__module__.split(".")[0] in OTHERS]


def members_of(name: str) -> list[object]:
    """Return the members of a module of ours, none where an extra that it needs is not installed."""
    try:
        return list(vars(importlib.import_module(name)).values())
    except ModuleNotFoundError as missing:
        if missing.name in EXTRAS:
            return []
        raise


def extending_classes() -> Iterator[type]:
    for info in pkgutil.walk_packages(elastic_hydra.__path__, "elastic_hydra."):
        members = members_of(info.name)
        yield from (cls for cls in members if inspect.isclass(cls) and cls.__module__ == info.name and bases_of(cls))


def private_names(cls: type) -> set[str]:
    """Return the private names that a class gives to its members, or uses of its instances."""
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls)))):
        match node:
            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Attribute(value=value, attr=name) if is_own_class(value):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return set(filter(is_private, found))


def inherited_names(cls: type) -> set[str]:
    """Return the private names in the source of a class that one of its bases has, too."""
    return private_names(cls) & set().union(*map(private_names, bases_of(cls)))


@pytest.mark.parametrize("cls", list(extending_classes()), ids=lambda cls: cls.__name__)
def test_names_that_are_shared_with_a_base_are_listed(cls: type) -> None:
    listed = set().union(*(names for base, names in INHERITED.items() if issubclass(cls, base)))
    assert inherited_names(cls) <= listed, "list it in elastic_hydra/compat/torch.py, or give it another name"


@pytest.mark.parametrize("base", INHERITED, ids=lambda cls: cls.__name__)
def test_what_is_listed_is_there_and_is_needed(base: type) -> None:
    theirs = set().union(*map(private_names, bases_of(base)))
    assert theirs >= INHERITED[base], "this version of torch does not have it"
    ours = set().union(*(inherited_names(cls) for cls in extending_classes() if issubclass(cls, base)))
    assert ours >= INHERITED[base], "no class of ours needs it any more"


def test_a_name_that_a_class_takes_from_its_base_is_found() -> None:
    class Extended(PContext):
        def _poll(self) -> None:
            self._close(signal.SIGTERM)
            self._ours = self._start

    assert inherited_names(Extended) == {"_poll", "_close", "_start"}
