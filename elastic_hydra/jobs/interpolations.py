"""Interpolations of a job's configuration that are evaluated once, so that all ranks see the same value."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import Container, ListConfig, OmegaConf, flag_override

from elastic_hydra.compat.cpython import Environ
from elastic_hydra.compat.omegaconf import raw_value

__all__ = ["evaluate_once"]

_OF_A_WORKER = {
    f"{prefix}{name}" for prefix in ("", "LOCAL_", "GROUP_", "ROLE_") for name in ("RANK", "WORLD_SIZE")
} | {"ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "OMP_NUM_THREADS"}
"""Environment variables that workers have, or have for themselves: what reads them is each rank's own."""

_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")


class _Watched(Environ):
    """The environment, which notes what is read from it."""

    read: set[str]

    def __getitem__(self, key: str) -> str:
        self.read.add(key)
        return str(super().__getitem__(key))


def evaluate_once(config: Container) -> None:
    """Evaluate each interpolation of a configuration, and keep what a resolver says that does not keep it itself.

    What reads the variables of a worker, such as `${oc.env:RANK}`, stays as it is, for each rank to evaluate; so do
    OmegaConf's own resolvers, which give all ranks the same, and what cannot be evaluated: that is the task's business.

    Args:
        config: changed, where an interpolation has such a resolver.
    """
    keys: Any = range(len(config)) if isinstance(config, ListConfig) else list(config) if config else ()
    for key in keys:
        with contextlib.suppress(Exception):
            if OmegaConf.is_missing(config, key):
                continue
            if OmegaConf.is_interpolation(config, key):
                _evaluate(config, key)
            elif isinstance(node := config[key], Container):
                evaluate_once(node)


def _evaluate(config: Any, key: Any) -> None:
    cache = OmegaConf.get_cache(config)
    before = {name: set(values) for name, values in cache.items()}
    with _watched() as read:
        value = config[key]
    if read & _OF_A_WORKER:
        for name, values in cache.items():
            for new in set(values) - before.get(name, set()):
                del values[new]
        return
    names = _RESOLVER.findall(str(raw_value(config, key)))
    if any(not name.startswith("oc.") and name not in cache for name in names):
        with flag_override(config, ["readonly", "struct"], False):
            config[key] = value


@contextlib.contextmanager
def _watched() -> Iterator[set[str]]:
    environ: Any = os.environ
    kind, environ.__class__ = environ.__class__, _Watched
    environ.read = set()
    try:
        yield environ.read
    finally:
        environ.__class__ = kind
        del environ.read
