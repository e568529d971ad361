"""The ways to reach hosts: each is a module that opens streams and knows where hosts may be, and does nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import LOCAL, HostsConfig
from elastic_hydra.hosts.transport import Transport

__all__ = ["Engine", "engine_of"]

_MODULES = {
    "allocation": "elastic_hydra.hosts.allocation",
    "slurm": "elastic_hydra.hosts.slurm",
    "ssh": "elastic_hydra.hosts.ssh",
    "ray": "elastic_hydra.hosts.ray",
}
"""The modules of the engines that this package has. Each has a function `engine(keys: HostsConfig) -> Engine`."""


@runtime_checkable
class Engine(Protocol):
    """Where hosts may be, and how each of them is reached."""

    @property
    def is_elastic(self) -> bool:
        """Whether a host that has nothing to do is let go, and asked for again when there is work."""

    def places(self) -> Sequence[str]:
        """Return the places where a host may be, each with a name for people: `n1`, or `job 1` where none has a name.

        Raises:
            ConfigError: there is none, or they cannot be found out.
        """

    def transport(self, place: str) -> Transport:
        """Return a new way to the host at a place, not open yet. It is asked for again when the host was lost."""


def engine_of(keys: HostsConfig) -> Engine | None:
    """Return the engine that a configuration names; None: there is no host but the launcher's own machine.

    Raises:
        ConfigError: there is none of that name, or it cannot be used as configured.
    """
    if keys.engine == LOCAL:
        return None
    name = _MODULES.get(keys.engine, keys.engine)
    key = f"hydra.launcher.hosts.engine={keys.engine}"
    try:
        is_there = find_spec(name) is not None
    except ImportError:  # the package that it should be in is not there
        is_there = False
    if not is_there:
        there = [LOCAL, *(word for word, module in _MODULES.items() if find_spec(module) is not None)]
        raise ConfigError(f"{key}: there is no module {name} here; choose one of {', '.join(there)}")
    make: Any = getattr(import_module(name), "engine", None)
    if make is None:
        raise ConfigError(f"{key}: {name} has no function engine(keys), which would return how hosts are reached")
    made = make(keys)
    if not isinstance(made, Engine):
        raise ConfigError(
            f"{key}: what {name}.engine(keys) has returned, {made!r}, needs is_elastic, places and transport"
        )
    return made
