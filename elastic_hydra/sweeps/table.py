"""The last screen of a sweep: what became of each job."""

from __future__ import annotations

import dataclasses
import itertools
import math
import reprlib
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hydra.core.utils import filter_overrides

from elastic_hydra.failures.cause import one_line
from elastic_hydra.overview.words import shown_path
from elastic_hydra.sweeps.job_end import NOT_STARTED, JobEnd

__all__ = ["common_overrides", "fastest", "in_order", "kept", "render", "shown_value"]

_MANY = 40
"""Jobs above which only some of each state are shown."""
_MOST_SHOWN = {"finished": 10, NOT_STARTED: 0}
"""How many of a state are shown then; of the others, which ask for something to be done, more."""
_MOST_OTHERS = 20
_WIDTH = 60
_LONGEST_TEXT = 1000
"""Characters of a value that is no number."""
_PARTS = 8
"""Of a dictionary, a list or an object, that are shown at most."""


def render(jobs: Sequence[JobEnd], maximize: bool | None = None, rest: Path | None = None) -> str:
    """Render the table of a sweep.

    Args:
        jobs: all of them, in their order.
        maximize: whether larger values are better; None: that is not known, and the jobs stay in their order.
        rest: the file that has all jobs, when there are too many to show; None: show all of them.
    """
    states = sorted(dict.fromkeys(job.state for job in jobs), key=lambda state: state != "finished")
    counts = {state: sum(job.state == state for job in jobs) for state in states}
    lines = [", ".join(f"{count} {state}" for state, count in counts.items())]
    common = common_overrides(jobs)
    if common:
        lines.append(f"all with {' '.join(common)}")
    ordered = in_order(jobs, maximize)
    shown = ordered if rest is None or len(jobs) <= _MANY else _the_telling(ordered)
    best = maximize is not None and any(_number_of(job) is not None for job in jobs)
    heads = ("job", "state", "time", "attempts", "restarts", "value, best first" if best else "value", "overrides")
    lines += _columns(heads, [_row(job, common) for job in shown], shown)
    if rest is not None and len(shown) < len(jobs):
        lines.append(f"and {len(jobs) - len(shown)} more, which are in {shown_path(rest)}")
    return "\n".join(lines)


def fastest(jobs: Sequence[JobEnd]) -> str:
    """Say which job took the shortest time, and how much longer the next one took; empty: there is nothing to compare.

    Args:
        jobs: all of a sweep.
    """
    ran = sorted((job for job in jobs if job.state == "finished" and not job.recorded), key=lambda job: job.seconds)
    if len(ran) < 2:
        return ""
    common = common_overrides(jobs)
    first, second = (_cut(" ".join(_differing(job, common))) for job in ran[:2])
    longer = ran[1].seconds / max(ran[0].seconds, 0.001) - 1
    return f"fastest: {first} ({ran[0].seconds:.2f} s); next: {second} ({ran[1].seconds:.2f} s, {longer:+.0%})"


def common_overrides(jobs: Sequence[JobEnd]) -> list[str]:
    """Return the overrides that all of several jobs have, which tell nothing about any one of them."""
    if len(jobs) < 2:
        return []
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs[1:]))
    return [override for override in filter_overrides(jobs[0].overrides) if override in common]


def in_order(jobs: Sequence[JobEnd], maximize: bool | None) -> list[JobEnd]:
    """Return the jobs, the best first if it is known what is better; those without a number keep their order."""
    if maximize is None:
        return list(jobs)
    sign = -1.0 if maximize else 1.0
    numbered = [job for job in jobs if _number_of(job) is not None]
    others = [job for job in jobs if _number_of(job) is None]
    return sorted(numbered, key=lambda job: sign * (_number_of(job) or 0.0)) + others


class _Text(str):
    """What is shown of a value that is not kept."""

    __slots__ = ()


def kept(value: Any) -> Any:
    """Return what the table needs of a return value, which may be large: a number, or a text."""
    small = isinstance(value, Real) or value is None or (type(value) is str and len(value) <= _LONGEST_TEXT)
    return value if small else _Text(shown_value(value, _LONGEST_TEXT))


def shown_value(value: Any, width: int = _WIDTH) -> str:
    """Write a return value for people: numbers with the digits that matter, anything else only as far as it fits."""
    if isinstance(value, _Text):
        text = str(value)
    elif isinstance(value, Real) and not isinstance(value, (bool, int)):
        text = f"{float(value):.6g}"
    elif type(value) is dict and len(value) <= _PARTS:
        text = "{" + ", ".join(f"{_short_repr(key)}: {shown_value(part)}" for key, part in value.items()) + "}"
    elif type(value) in (list, tuple) and len(value) <= _PARTS:
        inside = ", ".join(map(shown_value, value))
        text = f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    else:
        text = "" if value is None else _short_repr(value)
    return _cut(text, width)


class _ShortRepr(reprlib.Repr):
    """Never writes the whole of a large value down, as `repr` would."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 2 * _WIDTH

    def repr_bytes(self, value: bytes, _: int) -> str:
        return repr(value) if len(value) <= _WIDTH else f"{len(value)} bytes"

    repr_bytearray = repr_bytes

    def repr_instance(self, value: Any, level: int) -> str:
        """Write containers of any class and dataclasses by their parts; what else there is writes itself."""
        try:
            return self._by_parts(value, level)
        except Exception:  # methods of the value's class fail: the standard library shows its type and address then
            return super().repr_instance(value, level)

    def _by_parts(self, value: Any, level: int) -> str:
        parts = _fields(value)
        if parts and level > 0:
            shown = [f"{name}={self.repr1(part, level - 1)}" for name, part in itertools.islice(parts.items(), _PARTS)]
            more = ["..."] if len(parts) > _PARTS else []
            return f"{type(value).__qualname__}({', '.join(shown + more)})"
        if isinstance(value, Mapping):
            return self.repr_dict(cast("dict[Any, Any]", value), level)
        if isinstance(value, (list, tuple)):
            return self.repr_list(cast("list[Any]", value), level)
        if isinstance(value, str):
            return self.repr_str(value, level)
        return super().repr_instance(value, level)


def _fields(value: Any) -> dict[str, Any]:
    """Return the named parts that a value's `repr` would write down; nothing for what has none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: getattr(value, name) for name in value._fields}
    return vars(value) if isinstance(value, SimpleNamespace) else {}


_short_repr = _ShortRepr().repr


def _number_of(job: JobEnd) -> float | None:
    number = float(job.value) if job.state == "finished" and isinstance(job.value, Real) else math.nan
    return None if math.isnan(number) else number


def _the_telling(jobs: Sequence[JobEnd]) -> list[JobEnd]:
    """Choose of many jobs the first ones that finished, which are the best ones, and those that did not."""
    taken: dict[str, int] = {}
    shown = []
    for job in jobs:
        taken[job.state] = taken.get(job.state, 0) + 1
        if taken[job.state] <= _MOST_SHOWN.get(job.state, _MOST_OTHERS):
            shown.append(job)
    return shown


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], jobs: Sequence[JobEnd]) -> list[str]:
    """Set rows in columns; one that says nothing is left out, the reason of a job is put below its row."""
    columns = [column for column in range(len(heads)) if column < 2 or any(row[column] for row in rows)]
    widths = {column: max(len(row[column]) for row in (heads, *rows)) for column in columns}
    lines = ["  ".join(heads[column].ljust(widths[column]) for column in columns).rstrip()]
    said = ""
    for row, job in zip(rows, jobs, strict=True):
        lines.append("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
        if job.reason and job.reason != said:
            said = job.reason
            lines.append(f"    {one_line(job.reason, 200)}")
        if job.reason and job.log is not None:
            lines.append(f"    see {shown_path(job.log)}")
    return lines


def _row(job: JobEnd, common: Sequence[str]) -> tuple[str, ...]:
    ran = job.state != NOT_STARTED and not job.recorded
    return (
        f"#{job.num}",
        job.state,
        f"{job.seconds:.1f} s" if ran else "recorded" if job.recorded else "",
        str(job.attempts) if ran and job.attempts > 1 else "",
        str(job.restarts) if ran and job.restarts else "",
        shown_value(job.value) if job.state == "finished" else "",
        _cut(" ".join(_differing(job, common))),
    )


def _differing(job: JobEnd, common: Sequence[str]) -> list[str]:
    return [override for override in filter_overrides(job.overrides) if override not in common]


def _cut(text: str, width: int = _WIDTH) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
