"""From an event to its line in a journal, and back."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from elastic_hydra.journal.events import EVENTS, VERSION, Event

__all__ = ["NewerFormat", "UnusableLine", "decode", "encode"]

_T = TypeVar("_T")

_NAMES = {cls: name for name, cls in EVENTS.items()}
_MAJOR = int(VERSION.partition(".")[0])


class UnusableLine(ValueError):
    """Says why a line cannot be used."""


class NewerFormat(Exception):
    """The line is of a format that a later version of this package writes, and this one would misread.

    Args:
        version: the version of the format.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


def encode(event: Event) -> bytes:
    """Return the line of an event, with the end of the line. Fields that are None are left out."""
    line = {"time": event.time, "event": _NAMES[type(event)], **_given(event)}
    return (json.dumps(line, default=_given) + "\n").encode()


def decode(text: bytes) -> Event | None:
    """Return what a line says.

    Args:
        text: the line.

    Returns:
        the event, without the fields that are not known here; None when the event is not known here.

    Raises:
        UnusableLine: it is no event, or a field is missing or has an impossible value.
        NewerFormat: it says that it is of a format that is not read here.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # its writer was killed, the disk was full, or somebody has changed it
        raise UnusableLine("it is no JSON, or half a line") from None
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        raise UnusableLine("it says no event")
    line["version"] = _version_of(line)
    line.setdefault("time", 0.0)
    cls = EVENTS.get(line["event"])
    if cls is None:
        return None
    try:
        return _made(cls, line)
    except UnusableLine as problem:
        raise UnusableLine(f"'{line['event']}' {problem}") from None


def _version_of(line: Mapping[str, Any]) -> str:
    """Return the version that a line says, if it is one that is read here; most lines say none."""
    name = "version" if "version" in line else "v"  # how it was spelled before
    version = str(line.get(name, _MAJOR))
    major = version.partition(".")[0]
    if not major.isdecimal() or len(major) > 9:
        raise UnusableLine(f"{name}={line[name]!r:.40} is no version")
    if int(major) > _MAJOR:
        raise NewerFormat(version[:40])
    return version


def _given(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not None."""
    values = ((name, getattr(instance, name)) for name in _fields_of(type(instance)))
    return {name: value for name, value in values if value is not None}


def _made(cls: type[_T], values: Mapping[str, Any]) -> _T:
    """Make an instance of a dataclass from the values that a line has for its fields."""
    given = {}
    for name, field in _fields_of(cls).items():
        if name in values:
            value = values[name]
            if field.nested is not None and isinstance(value, dict):
                value = _made(field.nested, value)
            if not field.accepts(value):
                raise UnusableLine(f"with {name}={values[name]!r:.40}")
            given[name] = value
        elif field.is_required:
            raise UnusableLine(f"without '{name}'")
    return cls(**given)


class _Field(NamedTuple):
    """What a field of a dataclass may be."""

    accepts: Callable[[Any], bool]
    nested: type | None
    """The dataclass that it is, if it is one."""
    is_required: bool


def _described(cls: Any) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: _Field(
            _acceptance(hints[field.name]),
            _nested_in(hints[field.name]),
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(cls)
    }


_fields_of: Callable[[Any], dict[str, _Field]] = functools.cache(_described)


def _nested_in(hint: Any) -> type | None:
    """Return the dataclass that a field is, if it is one."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    return next(filter(is_dataclass, kinds), None)


def _acceptance(hint: Any) -> Callable[[Any], bool]:
    """Return a function that says whether a value, as JSON gives it, is of a type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: True
    if hint is float:
        return lambda value: type(value) in (float, int)
    if origin is typing.Literal:
        return lambda value: isinstance(value, str) and value in args
    if origin is types.UnionType:
        accepted = [_acceptance(arg) for arg in args]
        return lambda value: any(accepts(value) for accepts in accepted)
    if origin is Sequence:
        accepts_item = _acceptance(args[0])
        return lambda value: type(value) is list and all(map(accepts_item, value))
    if origin is Mapping:
        return lambda value: type(value) is dict
    return lambda value: type(value) is hint
