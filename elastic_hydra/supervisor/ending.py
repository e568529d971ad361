"""The end of a worker or an agent: what an interpreter does at its own, as far as that is sound in a fork.

An interpreter waits for threads, runs exit functions, collects garbage, and takes its modules down, so that what they
hold is finalized and files are written. Here it is done for what this process has made itself (see `inherited`); the
libraries are not taken down, which takes half a second with torch.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

from elastic_hydra.compat import cpython
from elastic_hydra.supervisor import inherited, signals

__all__ = ["end", "finalize_all"]

_FEW = 1000
"""Items of a global list or dictionary that are looked through: to look at one that was inherited copies its memory."""
_STAY = (type, types.FunctionType, types.ModuleType)
"""What other objects may need while they are finalized."""


def end(code: int) -> NoReturn:
    """End this process.

    Args:
        code: its exit code.
    """
    steps: list[Callable[[], Any]] = [
        cpython.join_threads,
        cpython.run_exit_functions,
        _flush_streams,
        _silence,
        _flush_files,  # the collector might close a file before the one that writes into it
        _collect,
        _flush_files,
        _flush_streams,
    ]
    for step in steps:
        _call(step)
    os._exit(code)


def finalize_all() -> None:
    """Finalize what this process has made for its forks, when all of them have ended: temporary folders of the app."""
    for finalizer in reversed(inherited.stock.finalizers):
        _call(finalizer)
    for obj in inherited.stock.kept:
        if (function := inherited.finalizer_of(type(obj))) is not None:
            _call(function, obj)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _silence() -> None:
    """Keep handlers of signals and threads that go on from being heard any more; an interpreter stops them here."""
    threading.excepthook = lambda *_: None
    for number in signals.ALL:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _collect() -> None:
    """Collect garbage, then finalize what the process still has; where it has nothing, that has left no new garbage."""
    gc.collect()
    acted = _finalize()
    acted |= _close_files()
    acted |= _let_go()
    if acted:
        gc.collect()


def _finalize() -> bool:
    """Call the finalizers, written in Python, of all objects that are still there, and end what generators wait for."""
    found = [
        obj for obj in _objects_of(lambda kind: inherited.finalizer_of(kind) is not None) if not gc.is_finalized(obj)
    ]
    inherited.stock.kept += found  # or they would be finalized once more
    for obj in found:
        _call(inherited.finalizer_of(type(obj)), obj)
    return bool(found)


def _flush_files() -> None:
    theirs = [file for ref in inherited.stock.files if (file := ref()) is not None]
    for file in inherited.in_order_of_writing([*theirs, *_objects_of(inherited.is_file)]):
        _call(file.flush)


def _close_files() -> bool:
    """Close files of kinds that write something at their end, such as gzip's."""
    found = [
        file for file in inherited.in_order_of_writing(_objects_of(inherited.is_file)) if type(file).__module__ != "_io"
    ]
    for file in found:
        _call(file.close)
    return bool(found)


def _objects_of(is_wanted: Callable[[type], bool]) -> list[Any]:
    """Return the objects that this process has made, of the classes that are wanted; each class is asked about once."""
    objects = gc.get_objects()
    kinds = set(filter(is_wanted, set(map(type, objects))))
    return [obj for obj in objects if type(obj) in kinds] if kinds else []


def _let_go() -> bool:
    """Drop what the app's modules hold.

    Libraries that are written in C finalize their objects when nobody has them any more.
    """
    made_here, dropped = set(map(id, gc.get_objects())), False
    for module in inherited.modules():
        for name, value in list(vars(module).items()):
            if type(value) in (dict, list) and len(value) <= _FEW and name != "__builtins__":
                dropped |= _drop(value, made_here)
        dropped |= _drop(vars(module), made_here)
    return dropped


def _drop(holder: dict[Any, Any] | list[Any], made_here: set[int]) -> bool:
    pairs = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
    keys = [key for key, value in reversed(pairs) if id(value) in made_here and not isinstance(value, _STAY)]
    for key in keys:
        del holder[key]
    return bool(keys)


def _call(step: Callable[..., Any], *arguments: Any) -> None:
    """Call what may fail; report that as the interpreter does at its end: it changes nothing any more."""
    try:
        step(*arguments)
    except BaseException:
        traceback.print_exc()
