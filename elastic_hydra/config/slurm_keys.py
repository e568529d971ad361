"""What keys that ask for a Slurm job must satisfy, be it the job of a host or that of a launcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from elastic_hydra.config.problems import Problems

__all__ = ["check_slurm_keys"]


def check_slurm_keys(
    group: str, counts: Iterable[str], refused: Mapping[str, str], values: Mapping[str, Any], problems: Problems
) -> None:
    """Check the keys that both kinds of jobs have.

    Args:
        group: of the keys: `hosts` or `sbatch`.
        counts: names of keys of the group that must be more than 0 where they are set.
        refused: options that cannot be additional parameters, with what to do instead.
        values: of the keys, by their names below `hydra.launcher`.
        problems: takes what is wrong.
    """
    for key in (f"{group}.{name}" for name in counts):
        problems.require(values[key] is None or values[key] > 0, key, values[key], "must be more than 0")
    name = values[f"{group}.name"]
    is_plain = name is None or re.fullmatch(r"[\w.+-]+", name) is not None
    problems.require(is_plain, f"{group}.name", name, "must consist of letters, digits, and . + - _")
    for option, value in (values[f"{group}.additional_parameters"] or {}).items():
        if what := refused.get(option.replace("_", "-")):
            problems.add(f"{group}.additional_parameters.{option}", value, what)
