"""Pickles for other processes: what the reader has, or can import, travels by name, all else as its code and values."""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import sys
import types
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import IO, Any, cast

import cloudpickle

from elastic_hydra.compat import cpython, loaded

__all__ = ["EVERYTHING", "Pickler", "dumps", "loads", "objects_in"]

_NO_FILE = "<dynamic-code>"


class _Everything(Container[str]):
    def __contains__(self, _: object) -> bool:
        return True


EVERYTHING = _Everything()
"""The names of a `__main__` of which the reader has the same, because one of both is a fork of the other."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes anything that cloudpickle takes: closures, lambdas, classes of `__main__`.

    Args:
        file: where it writes.
        shared: objects, by name, that the reader already has; they are sent as their names. Nothing of a
            built-in type.
        main: names in `__main__` that mean the same to the reader.
    """

    def __init__(self, file: IO[bytes], shared: Mapping[str, object], main: Container[str]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in shared.items()}
        self._main = main

    def reducer_override(self, obj: Any) -> Any:
        # A `persistent_id` would be asked about every number and string as well: two thirds of the time.
        if (name := self._names.get(id(obj))) is not None:
            return _shared_object, (name,)
        # cloudpickle copies what __main__ defines. Where the reader has the same __main__ a copy would be a stranger:
        # isinstance() fails for its instances.
        if isinstance(obj, (type, types.FunctionType)) and obj.__module__ == "__main__" and self._is_in_main(obj):
            return NotImplemented
        if isinstance(obj, types.ModuleType) and sys.modules.get(obj.__name__) is obj and obj.__name__ != "__main__":
            # cloudpickle takes no module that has replaced itself by an object of another type: torch.backends.cudnn.
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, types.CodeType):
            # cloudpickle 3.1.3 takes the name of the file away, and with it the user's lines from each traceback.
            make, args = self.dispatch_table[types.CodeType](obj)
            return make, tuple(obj.co_filename if arg == _NO_FILE else arg for arg in args)
        return super().reducer_override(obj)

    def _is_in_main(self, obj: Any) -> bool:
        first = obj.__qualname__.partition(".")[0]
        return first in self._main and _attribute("__main__", obj.__qualname__) is obj


class _PicklerForNew(Pickler):
    """For an interpreter that is no fork of this one: it imports modules by itself, and may execute `__main__`.

    cloudpickle copies a function with all that its module's global names refer to, unless the module has it under its
    name: not so for what a decorator such as `hydra.main` has wrapped. Here the code travels at most; what it refers
    to is the reader's own.
    """

    def reducer_override(self, obj: Any) -> Any:
        reduced = None
        if id(obj) not in self._names:
            reduced = self._by_name(obj) if isinstance(obj, types.FunctionType) else _as_shared(obj)
        return super().reducer_override(obj) if reduced is None else reduced

    def _by_name(self, function: types.FunctionType) -> Any:
        """Reduce a function whose module the reader has; None leaves it to others."""
        module = sys.modules.get(function.__module__)
        if module is None or function.__globals__ is not vars(module):
            return None
        name = module.__name__
        is_main = name == "__main__"
        if not self._main if is_main else not _can_be_imported(name):
            return None
        depth = 0
        if not is_main or function.__qualname__.partition(".")[0] in self._main:
            depth = _times_wrapped(function)
            if depth > 0:
                return _unwrapped, (name, function.__qualname__, depth)
            if depth == 0:
                return None
        make, (code, _, *newargs), (state, slots), *rest = self._dynamic_function_reduce(function)
        known = self._main if is_main else EVERYTHING
        slots["__globals__"] = {key: value for key, value in slots["__globals__"].items() if key not in known}
        slots["_cloudpickle_submodules"] = []
        return make, (code, _Globals(name), *newargs), (state, slots), *rest


def _as_shared(obj: Any) -> Any:
    """Reduce what processes share in the ways of `multiprocessing` and torch; None where it is not shared."""
    reduce = cpython.reducer_of(type(obj))
    torch = sys.modules.get("torch")
    if reduce is None:
        return None
    if torch is not None and (torch.is_tensor(obj) or torch.is_storage(obj)):
        return reduce(obj) if loaded.is_in_shared_memory(obj) else None
    return reduce(obj)


class _Globals:
    """Stands in a pickle for the dictionary of a module."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return _globals_of, (self._module,)


def _globals_of(module: str) -> dict[str, Any]:
    return vars(importlib.import_module(module))


def _unwrapped(module: str, name: str, depth: int) -> Any:
    found = _attribute(module, name)
    for _ in range(depth):
        found = found.__wrapped__
    return found


def _times_wrapped(function: types.FunctionType) -> int:
    """Return how many decorators are around what a module has under a function's name; -1: it is something else."""
    found, depth = _attribute(function.__module__, function.__qualname__), 0
    while found is not None and found is not function:
        found, depth = getattr(found, "__wrapped__", None), depth + 1
    return -1 if found is None else depth


def _attribute(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


@functools.cache
def _can_be_imported(name: str) -> bool:
    """Whether a new interpreter with the same search path finds a module where this one has it from."""
    if any(name == other or name.startswith(other + ".") for other in cloudpickle.list_registry_pickle_by_value()):
        return False
    parent = sys.modules.get(name.rpartition(".")[0])
    path = getattr(parent, "__path__", None)
    found = (finder.find_spec(name, path) for finder in sys.meta_path)  # `importlib.util` looks at what is loaded first
    spec = next((spec for spec in found if spec is not None), None)
    return spec is not None and spec.origin == getattr(sys.modules[name], "__file__", None)


def _shared_object(name: str) -> object:
    """Stand in a pickle for an object that its reader has."""
    raise LookupError(f"{name} is known to `loads` only")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Mapping[str, object]) -> None:
        super().__init__(file)
        self._shared = shared

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, _shared_object.__name__):
            return self._shared.__getitem__
        return super().find_class(module, name)


def dumps(
    value: object, shared: Mapping[str, object] | None = None, main: Container[str] = (), *, for_new: bool = False
) -> bytes:
    """Pickle anything that cloudpickle takes.

    Args:
        value: the object.
        shared: see `Pickler`.
        main: see `Pickler`.
        for_new: for an interpreter that is no fork of this one.
    """
    file = io.BytesIO()
    make = _PicklerForNew if for_new else Pickler
    make(file, {} if shared is None else shared, main).dump(value)
    return file.getvalue()


def objects_in(value: object) -> Iterator[object]:
    """Find the objects in a value, and in its lists, tuples, sets and dictionaries, that can be `shared`."""
    if type(value) is dict:
        yield from objects_in((*value.keys(), *value.values()))
    elif type(value) in (list, tuple, set, frozenset):
        for part in cast("Iterable[object]", value):
            yield from objects_in(part)
    elif type(value).__module__ != "builtins" or isinstance(value, types.FunctionType):
        yield value


def loads(data: bytes, shared: Mapping[str, object] | None = None) -> Any:
    """Undo `dumps`, given the reader's own `shared` objects."""
    # Not `shared or {}`: a mapping that loads its objects when they are first asked for is empty until then.
    return _Unpickler(io.BytesIO(data), {} if shared is None else shared).load()
