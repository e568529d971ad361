"""Exceptions on their way to another process: with traceback, notes and chain, in a form that always pickles."""

from __future__ import annotations

import os
import time
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tblib import Traceback

from elastic_hydra.compat import cpython
from elastic_hydra.supervisor import context, pickles
from elastic_hydra.supervisor.process_limits import with_limit
from elastic_hydra.supervisor.shorten import LONGEST, shortened

__all__ = ["PackedError", "WorkerError", "full_name", "pack", "place", "unpack"]

_MOST_LINKED = 100
"""Exceptions of a chain or a group that are packed, the nearest first."""
_MOST_FRAMES = 100
"""Frames of a traceback that are packed, half of them where it begins, half where it ends."""


class WorkerError(RuntimeError):
    """Stands in for a worker's exception that cannot be sent to another process; its text names the original type."""


@dataclass
class PackedError:
    """An exception with its traceback, notes and chain, in a form that always pickles."""

    type_name: str
    """Module and qualified name of the type."""
    message: str
    text: str
    """The formatted traceback, chain included; only of the one that was raised."""
    exception: bytes | None
    """The exception itself, without traceback and chain; None where it does not pickle."""
    frames: Any
    cause: PackedError | None
    context: PackedError | None
    suppress_context: bool
    members: tuple[PackedError, ...] = ()
    """Of an exception group."""
    bases: tuple[str, ...] = ()
    """Module and qualified names of the base classes, nearest first."""
    time: float = field(default_factory=time.time)
    """When it was caught, in seconds since the epoch."""


def _members(error: BaseException) -> tuple[BaseException, ...]:
    return tuple(error.exceptions) if isinstance(error, cpython.EXCEPTION_GROUP) else ()


def _rebuild(
    members: list[BaseException], cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    # Not cls(*args): a constructor with a signature of its own would refuse the arguments that it gave to its base.
    args = (*args, members) if members else args
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _pickled(error: BaseException) -> bytes | None:
    # Try the exception's own way of being pickled first: some classes keep state outside of `args` and `__dict__`. That
    # way counts only if the copy equals the original. A group's members travel by themselves: one that does not pickle
    # must not keep the others from arriving.
    args = tuple(map(shortened, error.args[:1] if _members(error) else error.args))
    state = {name: shortened(value) for name, value in error.__dict__.items()}
    by_parts, is_short = (type(error), args, state), len(_message(error)) <= LONGEST
    for parts in (error, by_parts) if is_short and not _members(error) else (by_parts,):
        try:
            data = pickles.dumps(parts, main=context.current().main_names)
            restored = pickles.loads(data)
            if parts is error and (type(restored) is not type(error) or str(restored) != str(error)):
                continue
            return data
        except Exception:
            continue
    return None


def pack(error: BaseException, get_locals: Callable[[types.FrameType], dict[str, Any]] | None = None) -> PackedError:
    """Make an exception, and what hangs on it, fit for another process.

    tblib keeps the frames, so that the reader sees the worker's own lines; torch keeps text only and Hydra 1.3 nothing.
    There is no recursion here, since chains may be thousands long.

    Args:
        error: the exception.
        get_locals: tells the local variables that the reader shall find in a frame; None: none in any.
    """
    found, seen, complete = [error], {id(error)}, True
    hang_on: dict[int, list[int]] = {}
    for exception in found:
        new = {id(other): other for other in _linked(exception) if id(other) not in seen}
        fitting = list(new)[: _MOST_LINKED - len(found)]
        complete = complete and len(fitting) == len(new)
        hang_on[id(exception)] = fitting  # each in one place only: a chain may end in a circle
        seen.update(fitting)
        found.extend(new[key] for key in fitting)
    packed: dict[int, PackedError] = {}
    for exception in reversed(found):  # from the last of the chain, so that an exception finds its causes packed
        cause, context = (
            id(other) if id(other) in hang_on[id(exception)] else 0
            for other in (exception.__cause__, exception.__context__)
        )
        packed[id(exception)] = PackedError(
            type_name=full_name(type(exception)),
            message=with_limit(shortened(_message(exception))),  # limits are those of this process, not of the reader
            text=shortened(_text(exception, complete)) if exception is error else "",
            exception=_pickled(exception),
            frames=_frames(exception, get_locals if exception is error else None),
            cause=packed.get(cause),
            context=packed.get(context) if context != cause else None,
            suppress_context=exception.__suppress_context__,
            members=tuple(packed[id(member)] for member in _members(exception) if id(member) in packed),
            bases=tuple(full_name(base) for base in type(exception).__mro__[1:] if base is not object),
        )
    return packed[id(error)]


def _linked(error: BaseException) -> tuple[BaseException, ...]:
    # A group without its members is none, so they come first.
    linked = (*_members(error), error.__cause__, error.__context__)
    return tuple(exception for exception in linked if exception is not None)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"<{type(broken).__name__} in __str__>"


def _frames(error: BaseException, get_locals: Callable[[types.FrameType], dict[str, Any]] | None) -> Any:
    """Return the frames of a traceback, of one that is very deep the first and the last ones.

    tblib nests them in each other, so a deep one can be neither packed nor read within the limit of recursion.
    """
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    if len(frames) > _MOST_FRAMES:
        frames[_MOST_FRAMES // 2 : -_MOST_FRAMES // 2] = []
    kept = None
    for frame in reversed(frames):
        kept = types.TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return Traceback(kept, get_locals=get_locals).to_dict() if kept is not None else None


def _text(error: BaseException, chain: bool) -> str:
    """Format the traceback; what Python itself cannot format, because a method of the class raises, we do."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__, chain=chain))
    except Exception:
        stack = "".join(traceback.format_tb(error.__traceback__))
        text = f"Traceback (most recent call last):\n{stack}{full_name(type(error))}: {_message(error)}\n"
    return text if chain else f"(more than {_MOST_LINKED} exceptions led to this one)\n{text}"


def unpack(packed: PackedError) -> BaseException:
    """Restore an exception: type, message, frames, notes and chain.

    Returns:
        the exception, or a `WorkerError` in its place when its type cannot be restored here.
    """
    error: BaseException | None = None
    members = [unpack(member) for member in packed.members]
    if packed.exception is not None:
        try:
            restored = pickles.loads(packed.exception)
            error = _rebuild(members, *restored) if isinstance(restored, tuple) else cast(BaseException, restored)
        except Exception:
            error = None  # its class is not importable here; the stand-in below says what it was
    if error is None:
        error = WorkerError(f"{packed.type_name}: {packed.message}")
    if packed.frames is not None:
        error.__traceback__ = Traceback.from_dict(packed.frames).as_traceback()
    error.__cause__ = unpack(packed.cause) if packed.cause is not None else None
    error.__context__ = unpack(packed.context) if packed.context is not None else None
    error.__suppress_context__ = packed.suppress_context
    return error


def place(error: BaseException) -> str:
    """Say where an exception was raised: `train.py:42 in main`."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name}"


def full_name(cls: type) -> str:
    """Return the name of a class with its module, which built-in ones do without."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
