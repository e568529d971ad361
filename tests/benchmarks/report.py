"""What a benchmark hands over: tables that say what was measured and how, for people and as JSON."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.harness import ROOT, Samples

__all__ = ["Column", "Table", "machine", "spread", "versions"]

PACKAGES = (
    "elastic-hydra",
    "torch",
    "hydra-core",
    "omegaconf",
    "numpy",
    "hydra-joblib-launcher",
    "hydra-submitit-launcher",
    "hydra-torchrun-launcher",
)


@dataclass(frozen=True)
class Column:
    """One quantity of a table."""

    name: str
    unit: str
    per: float = 1.0
    """What one unit is in the quantity's own: seconds, bytes or none."""
    digits: int = 0
    spread: bool = True
    """Whether the smallest and the largest value are shown, too."""


@dataclass
class Table:
    """The outcome of one benchmark."""

    name: str
    title: str
    how: str
    columns: Sequence[Column]
    samples: Samples
    """By row and quantity."""
    floor: str = ""
    """The row and"""
    ratio_of: str = ""
    """the quantity that each row's `times the floor` refers to; empty: no such column."""
    notes: list[str] = field(default_factory=list)
    others: float | None = None
    """Part of the CPUs that processes other than the benchmark's used meanwhile."""

    def ratio(self, row: str) -> float | None:
        """Return a row's median in units of the floor's."""
        mine, floor = (self.samples[name].get(self.ratio_of) for name in (row, self.floor))
        return statistics.median(mine) / statistics.median(floor) if mine and floor else None

    def text(self) -> str:
        """Render it for people, in Markdown."""
        head = ["", *(f"{c.name}, {c.unit}" if c.unit else c.name for c in self.columns)]
        if self.floor:
            head.append("times the floor")
        lines = [head]
        for row, values in self.samples.items():
            cells = [row, *(_cell(values.get(c.name), c) for c in self.columns)]
            if self.floor:
                ratio = self.ratio(row)
                cells.append("" if ratio is None else f"{ratio:.2f}")
            lines.append(cells)
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        lines.insert(1, ["-" * width for width in widths])
        rendered = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
        busy = "" if self.others is None else f" Other processes used {100 * self.others:.0f} % of the CPUs meanwhile."
        parts = [f"## {self.name}: {self.title}", "", f"{self.how}{busy}", "", *rendered]
        return "\n".join([*parts, *(["", *self.notes] if self.notes else [])]) + "\n"

    def json(self) -> dict[str, Any]:
        """Return all values, with their medians."""
        rows = {}
        for row, values in self.samples.items():
            rows[row] = {name: {**spread(v), "values": v} for name, v in values.items()}
            if self.floor:
                rows[row]["times the floor"] = self.ratio(row)  # type: ignore[assignment]
        return {
            "name": self.name,
            "title": self.title,
            "how": self.how,
            "rows": rows,
            "notes": self.notes,
            "cpu_of_others": self.others,
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Summarize values, in their own unit: seconds, bytes, or none."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "count": len(values)}


def _cell(values: Sequence[float] | None, column: Column) -> str:
    if not values:
        return ""
    low, middle, high = (
        f"{v / column.per:,.{column.digits}f}" for v in (min(values), statistics.median(values), max(values))
    )
    return middle if not column.spread or len(values) == 1 else f"{middle} ({low}-{high})"


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return what is installed."""
    found = {"python": platform.python_version()}
    for name in names:
        found[name] = "not installed"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """Describe where and when this runs."""
    info = _cpuinfo()
    virtual = " (a virtual machine)" if "hypervisor" in info.get("flags", "").split() else ""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "cpu": info.get("model name", platform.processor()) + virtual,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "load_at_start": os.getloadavg(),
        "versions": versions(),
        "commit": _commit(),
        "command": sys.argv[1:],
    }


def _cpuinfo() -> Mapping[str, str]:
    first: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        first[name.strip()] = value.strip()
    return first


def _commit() -> str:
    """Return what is checked out, without asking git for more than its files."""
    head = ROOT / ".git" / "HEAD"
    try:
        text = head.read_text().strip()
        if text.startswith("ref: "):
            text = (ROOT / ".git" / text[5:]).read_text().strip()
    except OSError:
        return "unknown"
    return text[:12]


def describe(about: Mapping[str, Any]) -> str:
    """Render `machine()` for people."""
    load = ", ".join(f"{value:.1f}" for value in about["load_at_start"])
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['time']}, {about['cpus']} CPUs of {about['cpu']}, {about['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {about['kernel']}, load at start {load}\n{packages}; commit {about['commit']}\n"
        "Cells are medians, with the smallest and the largest value in parentheses. All ways of a table were measured "
        "in turns, in one run.\n"
    )
