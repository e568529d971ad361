"""`hydra.launcher.logs`: where workers write."""

# OmegaConf reads the annotations at run time, on Python 3.10 too: Optional and List, not `|` and `list`.
# ruff: noqa: UP006, UP007, UP035, UP045

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union

from elastic_hydra.config.keys import names_its_keys
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.values import sexagesimal

__all__ = ["LEVELS", "LogsConfig", "Streams", "check_logs", "line_prefix_of", "streams_of"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "OFF")

Streams = Union[int, Dict[int, int]]
"""Streams of each worker, or by local rank: 0 none, 1 stdout, 2 stderr, 3 both."""


@names_its_keys
@dataclass
class LogsConfig:
    """Where workers write: `hydra/launcher/logs=files|console|all`."""

    dir: Optional[str] = None
    """Folder for the workers' files; null: `logs` in the job's output directory. Relative to that directory."""
    redirects: Any = 3
    """Streams that go to files: 0 none, 1 stdout, 2 stderr, 3 both; or by local rank, `{0: 1, 1: 3}` or `"0:1,1:3"`."""
    tee: Any = "0:3"
    """Streams that go to files and to the console, likewise. Default: both of local rank 0."""
    local_ranks_filter: Optional[List[int]] = None
    """Local ranks whose output may reach the console; null: all."""
    duplicate_stdout_filters: List[str] = field(default_factory=list)
    """Lines of teed stdout that contain one of these also go to `filtered_stdout.log`; empty: there is no such file."""
    duplicate_stderr_filters: List[str] = field(default_factory=list)
    """Lines of teed stderr that contain one of these also go to `filtered_stderr.log`; empty: there is no such file."""
    line_prefix: Optional[str] = None
    """What each teed line begins with; knows `${job}`, `${role_name}`, `${rank}`, `${local_rank}` (escape as
    `\\${rank}`). null: `#3` where several jobs run at once, `rank 1` where several ranks are teed, or both; the empty
    string: nothing."""
    other_ranks_level: str = "OFF"
    """Level from which log records of ranks other than 0 go to their console, or to the file that stands for it:
    `DEBUG` … `CRITICAL`, or `OFF`. Their own log files get everything."""


def check_logs(logs: LogsConfig, problems: Problems) -> None:
    """Check these keys, except for `redirects` and `tee`, which `streams_of` checks.

    Args:
        logs: `hydra.launcher.logs`.
        problems: takes what is wrong.
    """
    problems.one_of("logs.other_ranks_level", str(logs.other_ranks_level).upper(), LEVELS)
    problems.not_blank("logs.dir", logs.dir)
    for rank in logs.local_ranks_filter or ():
        problems.require(rank >= 0, "logs.local_ranks_filter", rank, "must be local ranks, 0 or more")


def streams_of(key: str, value: Any, problems: Problems) -> Streams:
    """Read `3`, `{0: 3}`, or torchrun's `"0:3,1:1"`.

    Args:
        key: `logs.redirects` or `logs.tee`.
        value: the key's value in the configuration.
        problems: takes what is wrong.
    """
    pairs: Any = value
    if isinstance(value, str) and ":" in value:
        pairs = dict(pair.split(":", 1) for pair in value.split(",") if ":" in pair)
    items = list(pairs.items()) if isinstance(pairs, Mapping) else [(0, pairs)]
    try:
        read = {int(rank): int(streams) for rank, streams in items}
    except (TypeError, ValueError):
        read = {-1: -1}
    if any(rank < 0 or not 0 <= streams <= 3 for rank, streams in read.items()):
        unquoted = sexagesimal(value)
        hint = f'; YAML reads an unquoted {unquoted} as {value}: write "{unquoted}"' if unquoted else ""
        problem = "must be 0 (nothing), 1 (stdout), 2 (stderr) or 3 (both), or {local rank: number}"
        problems.add(key, value, problem + hint)
        return 0
    return read if isinstance(pairs, Mapping) else read[0]


def line_prefix_of(prefix: Optional[str], tee: Streams, workers: int, role: str) -> str:
    """Return what teed lines begin with.

    By default, a prefix names the job and the rank only where the output of several of them is shown: without need for
    it, a prefix would only break progress bars.

    Args:
        prefix: `logs.line_prefix`.
        tee: the streams that are teed.
        workers: the number of workers on this node.
        role: `hydra.launcher.role`.
    """
    if prefix is not None:
        return prefix
    teed = [rank for rank in range(workers) if (tee.get(rank, 0) if isinstance(tee, dict) else tee)]
    of_role = "" if role == "default" else " ${role_name}"
    return "${job}" + (f"{of_role} rank ${{rank}}: " if len(teed) > 1 else ": ")
