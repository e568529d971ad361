"""The jobs of a sweep as a table, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from typing import Any, TextIO

from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.report.parameters import parameters, typed

__all__ = ["number", "records", "write_csv", "write_json"]

_BEFORE = ("job", "state", "value", "seconds", "attempts", "restarts")
_BEHIND = ("host", "started", "ended", "kind", "reason", "dir")
"""Columns before and behind those of the parameters."""


def records(sweep: SweepOverview, now: float) -> Iterator[dict[str, Any]]:
    """Yield one mapping for each job. Times are in seconds since the epoch; what is not known is None.

    Args:
        sweep: the sweep.
        now: the time, in seconds since the epoch.
    """
    for job in sweep.jobs.values():
        state, began = sweep.state_of(job), job.started is not None
        yield {
            "job": job.num,
            "state": state,
            "value": job.value,
            "seconds": round(sweep.seconds(job, now), 3) if began else None,
            "attempts": job.attempt + 1 if began else 0,
            "restarts": job.restarts,
            "params": {name: typed(text) for name, text in parameters(job.overrides).items()},
            "host": job.host or sweep.host,
            "started": job.started,
            "ended": job.ended,
            "kind": job.kind,
            "reason": job.reason,
            "dir": job.dir,
        }


def number(value: Any) -> float | None:
    """Return a value that can be drawn or compared; None where it is no finite number."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def write_csv(sweep: SweepOverview, file: TextIO, now: float) -> None:
    """Write a table with a column for each parameter; values that are neither numbers nor texts are written as JSON."""
    found = list(records(sweep, now))
    names = list(dict.fromkeys(name for record in found for name in record["params"]))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_BEFORE, *names, *_BEHIND])
    texts = [parameters(job.overrides) for job in sweep.jobs.values()]
    for record, given in zip(found, texts, strict=True):
        cells = [_cell(record[column]) for column in _BEFORE]
        writer.writerow([*cells, *(given.get(name, "") for name in names), *(record[column] for column in _BEHIND)])


def write_json(sweep: SweepOverview, file: TextIO, now: float) -> None:
    """Write a list with one object for each job, one per line."""
    lines = ",\n".join(json.dumps(record) for record in records(sweep, now))
    file.write(f"[\n{lines}\n]\n" if lines else "[]\n")


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else json.dumps(value)
