"""Hosts of a dry run that would have to be waited for in Slurm's queue: each is supposed to be as it is asked for."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace

from omegaconf import DictConfig

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.config.sizes import counted
from elastic_hydra.hosts.engines import Engine
from elastic_hydra.hosts.environment import GPUS
from elastic_hydra.numa.machine import read_machine
from elastic_hydra.resources.examine import Examined
from elastic_hydra.resources.host import Host

__all__ = ["gpus_asked_for", "supposed_hosts"]

log = logging.getLogger("elastic_hydra")

_MOST = 64
"""So many hosts are supposed at most: a dry run shows where jobs start, and needs no more for that."""


def supposed_hosts(engine: Engine, settings: DictConfig, keys: HostsConfig, here: HostFacts) -> Mapping[str, Host]:
    """Return the hosts, by their names.

    Args:
        engine: knows how many there are.
        settings: the sweep's `hydra.launcher`.
        keys: what a host is asked for.
        here: what was found on this host; what no key says is supposed to be like here.

    Raises:
        ConfigError: the sweep could not run on such hosts as configured.
    """
    facts = replace(
        here,
        gpus=gpus_asked_for(keys),
        memory=here.memory if keys.mem_gb is None else round(keys.mem_gb * (1 << 30)),
        time_left=None if keys.timeout_min is None else keys.timeout_min * 60.0,
    )
    examined = Examined(facts, read_machine(), token="", shared_memory=-1)
    environ = {name: value for name, value in os.environ.items() if name not in GPUS}
    log.info(
        "No host is asked for in a dry run; each is supposed to have %s, and CPUs like this machine",
        counted(facts.gpus, "GPU"),
    )
    return {name: Host.elsewhere(name, settings, examined, environ) for name in engine.places()[:_MOST]}


def gpus_asked_for(keys: HostsConfig) -> int:
    """Return how many GPUs a host is asked for; 0: none, or it cannot be read."""
    more = keys.additional_parameters or {}
    counts = [re.search(r"(\d+)$", str(value)) for value in (keys.gpus_per_node, more.get("gpus"))]
    among_others = [re.search(r"\bgpu:(?:[\w.-]+:)?(\d+)", str(value)) for value in (keys.gres, more.get("gres"))]
    return next((int(match[1]) for match in (*counts, *among_others) if match is not None), 0)
