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
    """A line cannot be used; the text says why."""


class NewerFormat(Exception):
    """A line is in a format that only a later version of this package can read.

    Args:
        version: the version of the format.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


def encode(event: Event) -> bytes:
    """Return an event as a line, with the newline at its end. Fields that are None are left out."""
    line = {"time": event.time, "event": _NAMES[type(event)], **_present_fields(event)}
    return (json.dumps(line, default=_present_fields) + "\n").encode()


def decode(text: bytes) -> Event | None:
    """Return the event that a line holds.

    Args:
        text: the line.

    Returns:
        the event; fields that this version does not know are left out. None: this version does not know the event.

    Raises:
        UnusableLine: the line holds no event, or a field is missing or has an impossible value.
        NewerFormat: the line says that its format is newer than those that this version reads.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # the writer was killed, the disk was full, or somebody has edited the file
        raise UnusableLine("it is no JSON, or half a line") from None
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        raise UnusableLine("it says no event")
    line["version"] = _version_of(line)
    line.setdefault("time", 0.0)
    cls = EVENTS.get(line["event"])
    if cls is None:
        return None
    try:
        return _instance_of(cls, line)
    except UnusableLine as problem:
        raise UnusableLine(f"'{line['event']}' {problem}") from None


def _version_of(line: Mapping[str, Any]) -> str:
    """Return the version that a line says. Most lines say none, and have the version of this module.

    Raises:
        UnusableLine: the version is not written like one.
        NewerFormat: the version is newer than those that are read here.
    """
    name = "version" if "version" in line else "v"  # older journals have the key `v`
    version = str(line.get(name, _MAJOR))
    major = version.partition(".")[0]
    if not major.isdecimal() or len(major) > 9:
        raise UnusableLine(f"{name}={line[name]!r:.40} is no version")
    if int(major) > _MAJOR:
        raise NewerFormat(version[:40])
    return version


def _present_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not None."""
    values = ((name, getattr(instance, name)) for name in _fields_of(type(instance)))
    return {name: value for name, value in values if value is not None}


def _instance_of(cls: type[_T], values: Mapping[str, Any]) -> _T:
    """Make an instance of a dataclass from the values that a line has for its fields.

    Raises:
        UnusableLine: a value is missing or not of its type.
    """
    kept = {}
    for name, field in _fields_of(cls).items():
        if name in values:
            value = values[name]
            if field.nested is not None and isinstance(value, dict):
                value = _instance_of(field.nested, value)
            if not field.accepts(value):
                raise UnusableLine(f"with {name}={values[name]!r:.40}")
            kept[name] = value
        elif field.is_required:
            raise UnusableLine(f"without '{name}'")
    return cls(**kept)


class _Field(NamedTuple):
    """Which values a field of a dataclass may have."""

    accepts: Callable[[Any], bool]
    """Tells whether the field may have a value."""
    nested: type | None
    """The dataclass of the value; None: the value is no instance of a dataclass."""
    is_required: bool


def _described(cls: Any) -> dict[str, _Field]:
    """Return the fields of a dataclass by name."""
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
    """Return the dataclass in the type of a field, if there is one."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type)]
    return next(filter(is_dataclass, kinds), None)


def _acceptance(hint: Any) -> Callable[[Any], bool]:
    """Return a function that tells whether a value that was read from JSON is of a type.

    Args:
        hint: the type, as dataclasses annotate it.
    """
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
