"""From an event to its line in a journal, and back."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from elastic_hydra.journal.events import EVENTS, VERSION, Event, SweepBegan

__all__ = ["NewerFormat", "UnusableLine", "decode", "encode"]

_T = TypeVar("_T")

_NAMES = {cls: name for name, cls in EVENTS.items()}
_raw_decode = json.JSONDecoder().raw_decode
_CONFIG = b'"config": "'
_BINDINGS = b'"event": "bindings"'
_HEAD = 60
"""Bytes of a line within which it says its event."""
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


def decode(text: bytes, *, brief: bool = False) -> Event | None:
    """Return the event that a line holds.

    Args:
        text: the line.
        brief: whether to save time where only the course of the sweep counts: then configurations are empty, and
            `bindings` are passed over like unknown events.

    Returns:
        the event; fields that this version does not know are left out. None: this version does not know the event.

    Raises:
        UnusableLine: the line holds no event, or a field is missing or has an impossible value.
        NewerFormat: the line says that its format is newer than those that this version reads.
    """
    if brief:
        if _BINDINGS in text[:_HEAD]:
            return None
        text = _without_config(text)
    line = _parsed(text)
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        raise UnusableLine("it says no event")
    cls = EVENTS.get(line["event"])
    if cls is SweepBegan or "version" in line or "v" in line:
        line["version"] = _version_of(line)
    if cls is None:
        return None
    line.setdefault("time", 0.0)
    try:
        return _instance_of(cls, line)
    except UnusableLine as problem:
        raise UnusableLine(f"'{line['event']}' {problem}") from None


def _parsed(text: bytes) -> Any:
    """Return the value that a line of JSON stands for; `json.loads` would take twice as long for a short one.

    Raises:
        UnusableLine: it is none.
    """
    try:
        line = text.decode().strip()
        value, end = _raw_decode(line)
        if end == len(line):
            return value
    except (ValueError, RecursionError):  # the writer was killed, the disk was full, or somebody has edited the file
        pass
    raise UnusableLine("it is no JSON, or half a line")


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


def _without_config(text: bytes) -> bytes:
    """Return a line whose `config` is empty, if it has one and that is easily seen.

    Inside a text of JSON, a quotation mark has a backslash before it. So the two marks around the name, and the second
    one of those that enclose a comma and a blank, are never part of a configuration.
    """
    begin = text.find(_CONFIG)
    end = text.find(b'\\n", "', begin) if begin >= 0 else -1  # YAML ends with the end of a line
    return text if end < 0 else text[: begin + len(_CONFIG)] + text[end + 2 :]


def _instance_of(cls: type[_T], values: Mapping[str, Any]) -> _T:
    """Make an instance of a dataclass from the values that a line has for its fields.

    Raises:
        UnusableLine: a value is missing or not of its type.
    """
    known, kept = _fields_of(cls), {}
    for name, value in values.items():
        field = known.get(name)
        if field is None:
            continue
        if type(value) not in field.plain_types:
            value = _accepted(field, name, value)
        kept[name] = value
    if len(kept) < len(known):
        for name, field in known.items():
            if field.is_required and name not in kept:
                raise UnusableLine(f"without '{name}'")
    return cls(**kept)


def _accepted(field: _Field, name: str, value: Any) -> Any:
    """Return what a field gets for a value whose type alone does not say that it is right.

    Raises:
        UnusableLine: the value is not of the field's type.
    """
    made = value
    if field.nested is not None and isinstance(value, dict):
        made = _instance_of(field.nested, value)
    if not field.accepts(made):
        raise UnusableLine(f"with {name}={value!r:.40}")
    return made


class _Field(NamedTuple):
    """Which values a field of a dataclass may have."""

    accepts: Callable[[Any], bool]
    """Tells whether the field may have a value."""
    plain_types: frozenset[type]
    """Types all of whose values the field may have: for most values it is enough to look at these."""
    nested: type | None
    """The dataclass of the value; None: the value is no instance of a dataclass."""
    is_required: bool


def _described(cls: Any) -> dict[str, _Field]:
    """Return the fields of a dataclass by name."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: _Field(
            _acceptance(hints[field.name]),
            _plain_types(hints[field.name]),
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


def _plain_types(hint: Any) -> frozenset[type]:
    """Return the types all of whose values are of the type of a field."""
    if typing.get_origin(hint) is types.UnionType:
        return frozenset().union(*map(_plain_types, typing.get_args(hint)))
    if hint is float:
        return frozenset({float, int})
    return frozenset({hint}) if hint in (bool, int, str, type(None)) else frozenset()


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
        accepts_item, plain = _acceptance(args[0]), _plain_types(args[0])
        return lambda value: (
            type(value) is list and (plain.issuperset(map(type, value)) or all(map(accepts_item, value)))
        )
    if origin is Mapping:
        return lambda value: type(value) is dict
    return lambda value: type(value) is hint
