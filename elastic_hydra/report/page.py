"""The page about a sweep: one file, which needs no network.

Plotly draws. Its program is 4.8 MB long, and its smaller bundles are not in its Python package. So it is compressed to
2 MB, like the numbers that the page shows, and the browser unpacks both: all browsers since 2023 can
(`DecompressionStream`).
"""

from __future__ import annotations

import base64
import gzip
import importlib.metadata
import json
import shlex
import time
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from elastic_hydra.config.sizes import bytes_in_words
from elastic_hydra.overview.sweep import SweepOverview
from elastic_hydra.overview.words import duration
from elastic_hydra.report.page_data import PageData

__all__ = ["page"]

_SOURCES = files("elastic_hydra.report") / "page"
_PROGRAM = ("common.js", "table.js", "pictures.js", "page.js")
_MOST_FAILURES = 50
"""Groups of failures that are shown."""
_MOST_NAMED = 20
"""Jobs of a group that are named."""
_ORDER = ("running", "waiting", "finished", "failed", "lost", "preempted", "interrupted", "not started")


def page(sweep: SweepOverview, data: PageData, now: float) -> str:
    """Return the page as HTML.

    Args:
        sweep: the sweep.
        data: what the page shows of it.
        now: the time, in seconds since the epoch.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(duration=duration, moment=_moment, named=_named, short=_short)
    template = environment.from_string((_SOURCES / "page.html").read_text(encoding="utf-8"))
    counts = sweep.counts()
    end = now if sweep.state == "running" else sweep.last_event
    seconds = max(0.0, end - sweep.first_began)
    return template.render(
        sweep=sweep,
        data=data,
        now=now,
        counts=[(state, counts[state]) for state in _ORDER if state in counts],
        command=shlex.join(sweep.command),
        seconds=seconds,
        worked=data.goodput.total / data.slots if data.slots else seconds,
        best=[(job, " ".join(sweep.differing(job))) for job in data.best],
        parts=_parts(data),
        failures=data.failures[:_MOST_FAILURES],
        facts=_facts(data),
        style=Markup((_SOURCES / "page.css").read_text(encoding="utf-8")),
        program=Markup("\n".join((_SOURCES / name).read_text(encoding="utf-8") for name in _PROGRAM)),
        columns=_packed(json.dumps(data.columns, separators=(",", ":"))),
        plotly=_packed(get_plotlyjs()) if data.slots else "",
        version=importlib.metadata.version("elastic-hydra"),
    )


def _packed(text: str) -> str:
    """Compress a text, and write it in letters that HTML does not touch."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _parts(data: PageData) -> list[tuple[str, float, float, str]]:
    """Return name, slot-seconds, percentage and meaning of each part of the slots' time."""
    goodput = data.goodput
    parts = [
        ("useful", goodput.useful, "workers worked, and this start of them ended well or goes on"),
        ("start-up", goodput.start_up, "agents and workers were started or restarted, with the wait before it"),
        (
            "lost",
            goodput.lost,
            "workers worked, and failed or were stopped; what a checkpoint saved of it is not known",
        ),
        ("idle", goodput.idle, "the launcher was at work, and the slot was empty"),
    ]
    return [(name, seconds, 100 * seconds / (goodput.total or 1.0), meaning) for name, seconds, meaning in parts]


def _facts(data: PageData) -> list[tuple[str, str]]:
    """Return what is known of the last launcher's environment, and of the launchers before it."""
    if not data.began:
        return []
    last = data.began[-1]
    gpus = [name or "unknown model" for name in last.gpu_names]
    facts = {
        "host": last.host,
        "GPUs": ", ".join(f"{gpus.count(name)} {name}" for name in dict.fromkeys(gpus)),
        "CPUs": str(last.cpus or ""),
        "memory": bytes_in_words(last.memory) if last.memory else "",
        **last.versions,
        "directory": last.dir or "",
        "command": shlex.join(last.command),
        "launchers": "; ".join(f"{_moment(began.time)} on {began.host} (pid {began.pid})" for began in data.began),
    }
    return [(name, fact) for name, fact in facts.items() if fact]


def _moment(seconds: float) -> str:
    """Write a moment with its date, since a page is read on other days, too.

    Args:
        seconds: since the epoch; 0: it is not known.
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "?"


def _named(nums: list[int]) -> str:
    """Name jobs, but not too many of them."""
    unique = list(dict.fromkeys(nums))
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return ", ".join(f"#{num}" for num in unique[:_MOST_NAMED]) + more


def _short(value: Any) -> str:
    """Write a number with the digits that matter."""
    return f"{value:.6g}" if isinstance(value, (int, float)) else str(value)
