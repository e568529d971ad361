"""Whether the settings make sense at all, before any machine is looked at."""

from __future__ import annotations

from difflib import get_close_matches
from enum import Enum
from typing import TypeVar

from elastic_hydra.config.numa import Allocator, Cpus, Memory, Near, NumaConfig
from elastic_hydra.numa.errors import KEY, setting_error
from elastic_hydra.numa.lists import parse_list

Choice = TypeVar("Choice", bound=Enum)


def check(settings: NumaConfig, workers: int) -> None:
    """Refuse settings that no machine could follow.

    Hydra checks types and choices at composition already; settings made in Python come here unchecked.

    Raises:
        NumaError: Naming the first key that is wrong, and what it may be.
    """
    _choice("cpus", settings.cpus, Cpus)
    _choice("near", settings.near, Near)
    _choice("memory", settings.memory, Memory)
    _choice("allocator", settings.allocator, Allocator)
    if workers < 1:
        raise setting_error("cpus", settings.cpus, f"{workers} workers; at least 1")
    if settings.cores_per_worker is not None and settings.cores_per_worker < 1:
        raise setting_error("cores_per_worker", settings.cores_per_worker, "must be 1 or more, or null")
    if settings.cores_per_worker is not None and settings.cpus in (Cpus.none, Cpus.explicit):
        problem = (
            f"has no meaning with {KEY}.cpus={Cpus(settings.cpus).value}; choose spread, core, llc, node or package"
        )
        raise setting_error("cores_per_worker", settings.cores_per_worker, problem)
    if settings.reserve_cores < 0:
        raise setting_error("reserve_cores", settings.reserve_cores, "must be 0 or more")
    _check_threads(settings.threads)
    _check_explicit(settings)


def _choice(key: str, value: object, choices: type[Choice]) -> Choice:
    try:
        return choices(value)
    except ValueError:
        names = [choice.value for choice in choices]
        near = get_close_matches(str(value), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise setting_error(key, value, f"must be one of {', '.join(names)}{hint}") from None


def _check_threads(threads: int | str | None) -> None:
    if threads is None or threads == "auto":
        return
    if not str(threads).isdecimal() or int(threads) < 1:
        raise setting_error("threads", threads, "must be auto, a number of 1 or more, or null")


def _check_explicit(settings: NumaConfig) -> None:
    lists = list(settings.explicit)
    if settings.cpus == Cpus.explicit and not lists:
        raise setting_error("explicit", lists, f"{KEY}.cpus=explicit needs one list of CPUs per local rank")
    if lists and settings.cpus != Cpus.explicit:
        raise setting_error("explicit", lists, f"is read only with {KEY}.cpus=explicit")
    for text in lists:
        try:
            empty = not parse_list(text)
        except ValueError:
            empty = True
        if empty:
            raise setting_error("explicit", lists, f"{text!r} is not a list of CPUs such as '0-3,8'")
