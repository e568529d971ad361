"""The end of a worker or an agent: what an interpreter does at its own, as far as that is sound in a fork.

An interpreter waits for threads, runs exit functions, collects garbage, and takes its modules down, so that what they
hold is finalized and files are written. Here it is done for what this process has made itself (see `inherited`); the
libraries are not taken down, which takes half a second with torch.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

from elastic_hydra.launcher import inherited

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
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        _flush_streams,
        _silence,
        _flush_files,  # the collector might close a file before the one that writes into it
        gc.collect,
        _finalize,
        _let_go,
        gc.collect,
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
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _finalize() -> None:
    """Call the finalizers, written in Python, of all objects that are still there, and end what generators wait for."""
    finalizers: dict[type, Any] = {}
    for obj in gc.get_objects():
        kind = type(obj)
        if kind not in finalizers:
            finalizers[kind] = inherited.finalizer_of(kind)
        if finalizers[kind] is not None and not gc.is_finalized(obj):
            inherited.stock.kept.append(obj)  # or it would be finalized once more
            _call(finalizers[kind], obj)


def _flush_files() -> None:
    mine = [obj for obj in gc.get_objects() if inherited.is_file(type(obj))]
    theirs = [file for ref in inherited.stock.files if (file := ref()) is not None]
    for file in inherited.in_order_of_writing([*theirs, *mine]):
        _call(file.flush)


def _let_go() -> None:
    """Close files of kinds that write something at their end, such as gzip's, and drop what the app's modules hold.

    Libraries that are written in C finalize their objects when nobody has them any more.
    """
    objects = gc.get_objects()
    for file in inherited.in_order_of_writing(obj for obj in objects if inherited.is_file(type(obj))):
        if type(file).__module__ != "_io":
            _call(file.close)
    mine = set(map(id, objects))
    for module in inherited.modules():
        for name, value in list(vars(module).items()):
            if type(value) in (dict, list) and len(value) <= _FEW and name != "__builtins__":
                _drop(value, mine)
        _drop(vars(module), mine)


def _drop(holder: dict[Any, Any] | list[Any], mine: set[int]) -> None:
    pairs = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
    for key, value in reversed(pairs):
        if id(value) in mine and not isinstance(value, _STAY):
            del holder[key]


def _call(step: Callable[..., Any], *arguments: Any) -> None:
    """Call what may fail; report that as the interpreter does at its end: it changes nothing any more."""
    try:
        step(*arguments)
    except BaseException:
        traceback.print_exc()
