"""A callable as entry point, called in a worker as torch's `record` calls it."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable
from typing import Any, cast

from torch.distributed.elastic.multiprocessing.errors import get_error_handler, record

from elastic_hydra.supervisor.outcome import Returned
from elastic_hydra.supervisor.packed_error import place

__all__ = ["name_of", "run_entrypoint"]

__tracebackhide__ = True


def run_entrypoint(entrypoint: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call the entry point in a worker; an exception is written into the worker's error file, as torch does."""
    handler = get_error_handler()
    write_down, call = handler.record_exception, _exits_noted(entrypoint)

    def try_to_write_down(e: BaseException) -> None:
        above = e.__traceback__
        if above is not None and above.tb_next is not None and above.tb_next.tb_frame.f_code is call.__code__:
            above.tb_next = above.tb_next.tb_next  # torch's text has no frame of ours
        with contextlib.suppress(Exception):  # its text cannot be had, or the disk is full: it is raised all the same
            write_down(e)

    handler.record_exception = try_to_write_down  # type: ignore[method-assign]
    return record(call, handler)(*args)


def _exits_noted(entrypoint: Callable[..., Any]) -> types.FunctionType:
    """Have `sys.exit(0)`, which torch takes for a return, told from one: it may leave other ranks in the lurch."""

    def call(*args: Any) -> Any:
        try:
            return entrypoint(*args)
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise
            return Returned(None, exited=place(stop))

    functools.update_wrapper(call, entrypoint, assigned=("__name__", "__qualname__", "__module__"), updated=())
    return cast(types.FunctionType, call)


def name_of(entrypoint: Callable[..., Any] | str | None, args: list[Any]) -> str:
    """Name an entry point for people, as torch does: the function, the program, or the script that Python runs.

    Args:
        entrypoint: any callable, a program, or None.
        args: its arguments: of Python, the first that is no option is the script.
    """
    if isinstance(entrypoint, str):
        if entrypoint == sys.executable:
            return next((str(arg) for arg in args if not str(arg).startswith("-")), "")
        return entrypoint
    name = getattr(entrypoint, "__name__", None)
    if entrypoint is None or name:
        return str(name or "")
    inner = getattr(entrypoint, "func", None)  # a partial has no name, and torch fails on it
    return name_of(inner, args) if callable(inner) else type(entrypoint).__qualname__
