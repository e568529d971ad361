"""The keys that hold for a whole sweep: its launcher reads them once, before it has composed a job."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any

from elastic_hydra.config.detach import check_detach, sbatch_keys
from elastic_hydra.config.hosts import LOCAL, check_hosts, hosts_keys
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.resources import read_parallel
from elastic_hydra.config.schema import INLINE, START_METHODS
from elastic_hydra.config.values import value_at

__all__ = ["WHOLE_SWEEP", "check_whole_sweep", "differing", "whole_sweep_of"]

WHOLE_SWEEP = (
    "parallel",
    "stagger",
    "start_method",
    "preload",
    "on_failure",
    "max_failures",
    "debug",
    "detach",
    "resume",
    "requeue",
    "requeue_limit",
    "live",
    "dry_run",
    "signals_to_handle",
    "resources.jobs_per_gpu",
    "resources.gpu_memory_wait",
    "numa.reserve_cores",
    *hosts_keys(),
    *sbatch_keys(),
)
"""Names, below `hydra.launcher`, of the keys that hold for a whole sweep."""

_NO_MODULE = "must be a list of modules, as [package, package.module]"
_RESUME_MODES = ("false", "true", "failed", "interrupted", "all")


def whole_sweep_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the keys in `WHOLE_SWEEP`.

    Args:
        settings: `hydra.launcher`, with these keys resolved.
    """
    return {key: value_at(settings, key) for key in WHOLE_SWEEP}


def check_whole_sweep(values: Mapping[str, Any], problems: Problems) -> None:
    """Check the keys in `WHOLE_SWEEP`.

    Args:
        values: as `whole_sweep_of` returns them.
        problems: takes what is wrong.
    """
    read_parallel(values["parallel"], problems)
    for key in ("stagger", "resources.gpu_memory_wait"):
        problems.at_least(0, key, values[key], " (seconds)")
    for key, least in (("resources.jobs_per_gpu", 1), ("numa.reserve_cores", 0)):
        problems.at_least(least, key, values[key])
    for name in values["preload"]:
        problems.require(bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name)), "preload", name, _NO_MODULE)
    problems.one_of("start_method", values["start_method"], (*START_METHODS, INLINE))
    problems.one_of("on_failure", values["on_failure"], ("continue", "stop"))
    problems.one_of("resume", str(values["resume"]).lower(), _RESUME_MODES)
    check_hosts(values, problems)
    if (engine := values["hosts.engine"]) != LOCAL:
        here = f"works on the launcher's own machine only, and not with hosts.engine={engine}: leave one of them out"
        problems.require(values["debug"] is None, "debug", values["debug"], here)
        problems.require(values["start_method"] != INLINE, "start_method", values["start_method"], here)
    check_detach(values, problems)
    problems.one_of("requeue", values["requeue"], ("never", "auto"))
    if values["requeue_limit"] is not None:
        problems.at_least(1, "requeue_limit", values["requeue_limit"], ", or null")
    failures = values["max_failures"]
    if failures is not None and not re.fullmatch(r"[0-9]{1,9}|0?\.[0-9]+", str(failures)):
        problems.add("max_failures", failures, "must be a number of jobs, a fraction below 1 such as 0.1, or null")
    signals = [s.name for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]
    for name in values["signals_to_handle"]:
        problems.one_of("signals_to_handle", name, signals, "no signal that can be handled")


def differing(sweeps: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Any]], problems: Problems) -> None:
    """Find keys whose values differ between the sweep and its jobs: a job's value would be ignored silently.

    Args:
        sweeps: the sweep's values, as `whole_sweep_of` returns them.
        jobs: the values of each job, likewise, by a name of the job for people.
        problems: takes each key that differs, with all its values.
    """
    for key in WHOLE_SWEEP:
        names_by_value: dict[str, str] = {}
        for name, values in jobs.items():
            if values[key] != sweeps[key]:
                names_by_value.setdefault(str(values[key]), name)
        if names_by_value:
            listed = ", ".join(f"{value} in job {name}" for value, name in names_by_value.items())
            problems.add(
                key,
                sweeps[key],
                f"holds for the whole sweep, but is {listed}; set it once, on the command line or in the primary "
                "configuration, and in nothing that is swept",
            )
