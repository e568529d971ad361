"""What forked processes have from the process that imported the app, and how they leave it as their own ends come.

An object that was made before the fork is shared by all forks, so that none of them may finalize it: a temporary folder
that one fork removes is gone for all. What a fork has made itself is finalized when this fork ends. The app's exit
functions run in each worker, as they do where each worker has imported the app itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import re
import sys
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from elastic_hydra.compat import cpython
from elastic_hydra.supervisor.seeds import Seeds, look

__all__ = [
    "Stock",
    "adopt",
    "finalizer_of",
    "in_order_of_writing",
    "is_file",
    "is_of_a_tool",
    "leave_main",
    "modules",
    "take_stock",
]

_TOOLS = (
    "IPython",
    "_pydevd_bundle",
    "_pytest",
    "colab",
    "coverage",
    "debugpy",
    "execnet",
    "ipykernel",
    "pytest",
    "xdist",
)
"""Packages that run apps and are not part of them: their exit functions and streams are for their own process."""

_STANDARD_EXITS = ("logging.shutdown", "multiprocessing.util._exit_function", "weakref.finalize._exitfunc")
"""Exit functions of the standard library that act on what the ending process has itself."""

_IN_A_LIBRARY = re.compile(f"^{re.escape(sysconfig.get_path('stdlib'))}/|/(site|dist)-packages/")


@dataclass
class Stock:
    """What there is before the fork."""

    files: list[weakref.ref[Any]] = field(default_factory=list)
    """Open files; what a fork writes into their buffers is its own."""
    kept: list[object] = field(default_factory=list)
    """What is finalized when nobody has it any more; kept, so that no fork does that."""
    finalizers: list[Callable[[], object]] = field(default_factory=list)
    """What `weakref.finalize` would call at the end of the process that has made them."""
    modules: list[types.ModuleType] = field(default_factory=list)
    """The app's own."""
    last_module: str = ""
    """Name of the one that was imported last."""
    seeds: Seeds = field(default_factory=Seeds)
    """What becomes of the random generators in each fork."""


stock = Stock()
"""What this process has from its parent; nothing when it has imported everything itself."""


def take_stock() -> Stock:
    """Look through all objects of this process, and flush its files: else each fork would write the same buffers."""
    found, of_kind = Stock(), {}
    for obj in gc.get_objects():
        kind = type(obj)
        if kind not in of_kind:
            of_kind[kind] = found.files if is_file(kind) else found.kept if finalizer_of(kind) else None
        if (group := of_kind[kind]) is not None:
            group.append(weakref.ref(obj) if group is found.files else obj)
    for file in in_order_of_writing(file for ref in found.files if (file := ref()) is not None):
        with contextlib.suppress(Exception):  # the app learns by itself that its file cannot be written
            file.flush()
    for finalizer in cpython.finalizers():
        if (alive := finalizer.peek()) is not None:
            found.kept.append(alive[0])
            found.finalizers += [finalizer] * finalizer.atexit
    found.modules = [module for module in list(sys.modules.values()) if _is_the_users(module)]
    found.last_module = next(reversed(sys.modules))
    found.seeds = look()
    return found


def adopt(found: Stock) -> None:
    """Make this process, which forks others, one whose forks leave alone what is not theirs.

    Args:
        found: from `take_stock`, here or in the process of which this is a fork.
    """
    global stock
    stock = replace(
        found,
        files=stock.files + found.files,
        kept=stock.kept + found.kept,
        finalizers=stock.finalizers + found.finalizers,
        seeds=replace(found.seeds, python=found.seeds.python or stock.seeds.python),
    )
    for finalizer in cpython.finalizers():
        finalizer.atexit = False
    atexit.unregister(_NotTheForks())  # type: ignore[arg-type]
    cpython.forget_processes()


def leave_main() -> None:
    """Leave exit functions of this `__main__` to the launcher: a worker runs another script in its place."""
    atexit.unregister(_OfMain())  # type: ignore[arg-type]


class _OfMain:
    """Is equal to each exit function that `__main__` has defined."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, function: object) -> bool:
        return getattr(_innermost(function), "__module__", None) == "__main__"


def _innermost(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


class _NotTheForks:
    """Is equal to each exit function that no fork shall run. `atexit.unregister` compares; nothing lists them."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, function: object) -> bool:
        function = _innermost(function)
        module = str(getattr(function, "__module__", ""))
        if f"{module}.{getattr(function, '__qualname__', '')}" in _STANDARD_EXITS:
            return False
        # Functions of the standard library that the app has registered, such as `shutil.rmtree`, get what was there
        # before the fork.
        return module.partition(".")[0] in {*_TOOLS, "elastic_hydra", *sys.stdlib_module_names}


def is_of_a_tool(obj: object) -> bool:
    """Whether an object belongs to a program that runs the app, such as a notebook or a test runner."""
    return type(obj).__module__.partition(".")[0] in _TOOLS


def is_file(kind: type) -> bool:
    """Whether objects of a class are files."""
    return issubclass(kind, cpython.FileBase)


def finalizer_of(kind: type) -> Any:
    """Return what runs Python's code when an object of this class is finalized, if there is such code."""
    if kind is types.GeneratorType:
        return _end_generator
    function = getattr(kind, "__del__", None)
    return function if isinstance(function, types.FunctionType) and not is_file(kind) else None


def _end_generator(generator: types.GeneratorType[Any, Any, Any]) -> None:
    if generator.gi_frame is not None and not generator.gi_running:
        generator.close()


def in_order_of_writing(files: Iterable[Any]) -> Iterator[Any]:
    """Return those of some files that are open, each before the one into which it writes."""
    files = list(files)
    # A file that writes into another one was made after it; only the classes of C write into none.
    for at_the_bottom in (False, True):
        for file in reversed(files):
            with contextlib.suppress(Exception):  # ValueError: its buffer was taken away
                if isinstance(file, _BUFFERS) == at_the_bottom and not file.closed:
                    yield file


_BUFFERS = (io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair, io.FileIO)


def modules() -> list[types.ModuleType]:
    """Return the app's own modules."""
    found = [*stock.modules, sys.modules["__main__"]]  # which a script has made anew
    for name in reversed(sys.modules):
        if name == stock.last_module:
            break
        if _is_the_users(sys.modules[name]):
            found.append(sys.modules[name])
    return found


def _is_the_users(module: types.ModuleType) -> bool:
    if not isinstance(module, types.ModuleType):  # something that a library has put there
        return False
    name, path = module.__name__, getattr(module, "__file__", None)
    if name.partition(".")[0] in ("elastic_hydra", "hydra_plugins"):
        return False
    return name == "__main__" or (isinstance(path, str) and not _IN_A_LIBRARY.search(path))
