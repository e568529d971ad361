"""From an event to its line in a journal, and back."""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from elastic_hydra.journal.events import EVENTS, VERSION, Event, JobComposed, SweepBegan

__all__ = ["NewerFormat", "UnusableLine", "composed_in", "decode", "encode", "head_of", "word_of"]

_T = TypeVar("_T")

_NAMES = {cls: name for name, cls in EVENTS.items()}
_raw_decode = json.JSONDecoder().raw_decode
_CONFIG = b'"config": "'
_BEHIND_CONFIG = b'\\n", "dir": "'
_EVENT = b'"event": "'
_JOB = b"job"
_BEGIN = re.compile(
    rb'\{"time": (\d+(?:\.\d+)?), "event": "(\w+)", "num": (0|[1-9]\d{0,17})(?:, "state": "(\w+)"|[,}])'
)
_TEXT = rb'"[ !#-\[\]-~]*"'
"""A text of JSON in which nothing is escaped."""
_COMPOSED = re.compile(
    rb'(\{"time": [\d.]+, "event": "job", "num": \d+, "overrides": \[((?:TEXT(?:, TEXT)*)?)\], "config": ").*'
    rb'\\n(", "dir": TEXT(?:, "log_dir": TEXT)?(?:, "needs": TEXT)?(?:, "duration": [\d.]+)?\}\n)'.replace(
        b"TEXT", _TEXT
    )
)
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


def word_of(event: type[Event]) -> bytes:
    """Return the word that the lines of an event have as `event`."""
    return _NAMES[event].encode()


def encode(event: Event) -> bytes:
    """Return an event as a line, with the newline at its end. Fields that are None are left out."""
    line = {"time": event.time, "event": _NAMES[type(event)], **_present_fields(event)}
    return (json.dumps(line, default=_present_fields) + "\n").encode()


def decode(text: bytes, wanted: Collection[bytes] | None = None) -> Event | None:
    """Return the event that a line holds.

    Args:
        text: the line.
        wanted: words of the only events that are; None: all are. It saves the time that others would take, and that of
            configurations, which are empty then.

    Returns:
        the event; fields that this version does not know are left out. None: this version does not know the event.

    Raises:
        UnusableLine: the line holds no event, or a field is missing or has an impossible value.
        NewerFormat: the line says that its format is newer than those that this version reads.
    """
    if wanted is not None:
        word = _event_of(text)
        if word and word not in wanted:
            return None
        if word == _JOB:
            text = _without_config(text)
    line = _parsed(text)
    name = line.pop("event", None) if isinstance(line, dict) else None
    if not isinstance(name, str):
        raise UnusableLine("it says no event")
    cls = EVENTS.get(name)
    if cls is SweepBegan or "version" in line or "v" in line:
        line["version"] = _version_of(line)
    if cls is None:
        return None
    line.setdefault("time", 0.0)
    try:
        return _instance_of(cls, line)
    except UnusableLine as problem:
        raise UnusableLine(f"'{name}' {problem}") from None


def _event_of(text: bytes) -> bytes:
    """Return the word for the event of a line, without parsing it; empty where that is not easily seen."""
    begin = text.find(_EVENT, 0, _HEAD) + len(_EVENT)
    return text[begin : text.find(b'"', begin)] if begin >= len(_EVENT) else b""


def head_of(text: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return how a line begins that is about one job, without parsing the line.

    Returns:
        the time, the word for the event, the number of the job, and the state that the job has come to, empty where the
        line does not begin with one. All are empty if the line does not begin as `encode` writes it, is not about one
        job, or has no end.
    """
    match = _BEGIN.match(text)
    if match is None or not text.endswith(b"}\n"):
        return b"", b"", b"", b""
    time, word, num, state = match.groups(b"")
    return time, word, num, state


def composed_in(text: bytes) -> tuple[Sequence[str], bytes]:
    """Return the overrides that the line of a composed job has; most lines need not be parsed for that.

    Returns:
        the overrides, and the line without its configuration.

    Raises:
        UnusableLine, NewerFormat: as `decode`.
    """
    if (match := _COMPOSED.fullmatch(text)) is not None:
        begin, overrides, end = match.groups()
        return overrides[1:-1].decode().split('", "') if overrides else (), begin + end
    event = decode(text, (_JOB,))
    if not isinstance(event, JobComposed):
        raise UnusableLine("it says two events")
    return event.overrides, _without_config(text)


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

    Inside a text of JSON, a quotation mark has a backslash before it. So neither the marks around the name `config` nor
    those around `dir`, which follows it, are part of a text. YAML ends with the end of a line.
    """
    begin = text.find(_CONFIG)
    end = text.rfind(_BEHIND_CONFIG) if begin >= 0 else -1
    return text if end < begin else text[: begin + len(_CONFIG)] + text[end + 2 :]


def _instance_of(cls: type[_T], values: dict[str, Any]) -> _T:
    """Make an instance of a dataclass from the values that a line has for its fields; they are changed.

    Raises:
        UnusableLine: a value is missing or not of its type.
    """
    form = _form_of(cls, tuple(values), tuple(map(type, values.values())))
    for name in form.unknown:
        del values[name]
    for name, field in form.doubtful:
        value = values[name]
        if field.nested is not None and type(value) is dict:
            values[name] = _instance_of(field.nested, value)
        elif not field.accepts(value):
            raise UnusableLine(f"with {name}={value!r:.40}")
    if form.missing:
        raise UnusableLine(f"without '{form.missing}'")
    return cls(**values)


class _Form(NamedTuple):
    """What is left to do with lines that have the same names and types of values, as most of them have."""

    unknown: Sequence[str]
    """Names that are no fields of the dataclass."""
    doubtful: Sequence[tuple[str, _Field]]
    """Fields whose values may be wrong, although their types may be right."""
    missing: str
    """A field that must be there and is not; empty: all are there."""


def _look_at(cls: Any, names: tuple[str, ...], kinds: tuple[type, ...]) -> _Form:
    """Look at the names and types of the values of a line."""
    known = _fields_of(cls)
    missing = next((name for name, field in known.items() if field.is_required and name not in names), "")
    pairs = [(name, kind) for name, kind in zip(names, kinds, strict=True) if name in known]
    doubtful = [(name, known[name]) for name, kind in pairs if not known[name].accepts_all_of(kind)]
    return _Form([name for name in names if name not in known], doubtful, missing)


_form_of: Callable[[Any, tuple[str, ...], tuple[type, ...]], _Form] = functools.lru_cache(maxsize=1000)(_look_at)


class _Field(NamedTuple):
    """Which values a field of a dataclass may have."""

    accepts: Callable[[Any], bool]
    """Tells whether the field may have a value."""
    plain_types: frozenset[type]
    """Types all of whose values the field may have; `object` stands for any type."""
    nested: type | None
    """The dataclass of the value; None: the value is no instance of a dataclass."""
    is_required: bool

    def accepts_all_of(self, kind: type) -> bool:
        """Whether the field may have every value of a type, so that values need no look."""
        return kind in self.plain_types or object in self.plain_types


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
    if hint is Any:
        return frozenset({object})
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
