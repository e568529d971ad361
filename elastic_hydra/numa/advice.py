"""What to ask for where a machine has too few cores for what was asked: only settings that were tried on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from elastic_hydra.config.numa import Near, NumaConfig
from elastic_hydra.config.sizes import counted

Fits = Callable[[NumaConfig, int], bool]
"""Tells whether so many workers can be bound with some settings."""


def advice(key: str, settings: NumaConfig, workers: int, cores: int, fits: Fits) -> str:
    """Say what would work instead of a setting that was refused.

    Args:
        key: The setting that was refused, as `NumaConfig` names it.
        settings: All settings, with the refused one.
        workers: Workers that were asked for.
        cores: Physical cores that the machine has.
        fits: Tries other settings, or another number of workers.

    Returns:
        Advice such as `at most 4, or null to share cores`; empty when nothing that was tried works.
    """
    if key == "near":
        return _near(settings, workers, fits)
    if key == "reserve_cores":
        return _reserved(settings, workers, cores, fits)
    return _cores(key, settings, workers, fits)


def _near(settings: NumaConfig, workers: int, fits: Fits) -> str:
    named = "(CUDA_VISIBLE_DEVICES, or name them in devices=[0000:07:00.0])"
    evenly = fits(replace(settings, near=Near.auto), workers)
    return f"near=auto would place its workers evenly {named}" if evenly else f"show it some {named}"


def _cores(key: str, settings: NumaConfig, workers: int, fits: Fits) -> str:
    """Advise on `cores_per_worker` and `exclusive`: smaller values, fewer workers, or shared cores."""
    size = settings.cores_per_worker
    ways = []
    if key == "cores_per_worker" and size is not None:
        less = _first(range(size - 1, 0, -1), lambda each: fits(replace(settings, cores_per_worker=each), workers))
        ways += [] if less is None else [f"at most {less}"]
    fewer = None if ways else _fewer(settings, workers, fits)
    ways += [] if fewer is None else [f"at most {counted(fewer, 'worker')}"]
    if settings.exclusive and fits(replace(settings, exclusive=False), workers):
        ways.append("exclusive=false to share cores")
    elif size is not None and fits(replace(settings, cores_per_worker=None), workers):
        ways.append("null to share cores" if key == "cores_per_worker" else "cores_per_worker=null")
    if not ways and size is not None:
        ways += _both("cores_per_worker", replace(settings, cores_per_worker=None), "null", workers, fits)
    return ", or ".join(ways)


def _reserved(settings: NumaConfig, workers: int, cores: int, fits: Fits) -> str:
    most = _first(range(cores - 1, -1, -1), lambda kept: fits(replace(settings, reserve_cores=kept), workers))
    if most is not None:
        return f"at most {most}"
    return "".join(_both("reserve_cores", replace(settings, reserve_cores=0), "0", workers, fits))


def _both(key: str, settings: NumaConfig, value: str, workers: int, fits: Fits) -> list[str]:
    """Advise another value of the setting together with fewer workers, where the value alone is not enough.

    Args:
        key: The setting.
        settings: The settings with the other value.
        value: The other value, as it is written.
        workers: Workers that were asked for.
        fits: Tries settings.
    """
    fewer = _fewer(settings, workers, fits)
    return [] if fewer is None else [f"{counted(fewer, 'worker')} with {key}={value} would fit"]


def _fewer(settings: NumaConfig, workers: int, fits: Fits) -> int | None:
    return _first(range(workers - 1, 0, -1), lambda count: fits(settings, count))


def _first(candidates: Iterable[int], works: Callable[[int], bool]) -> int | None:
    return next((candidate for candidate in candidates if works(candidate)), None)
