"""A job's `hydra.launcher` as `resolve` gets it: the schema's defaults, and what a test changes."""

from __future__ import annotations

import copy
import functools
from typing import Any

from omegaconf import OmegaConf

from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.resolve import Launch, resolve
from elastic_hydra.config.schema import ElasticConfig

CPU_HOST = HostFacts(cpus=8, gpus=0, torch=(2, 13), memory=16 * 2**30, has_etcd=True)
GPU_HOST = HostFacts(cpus=64, gpus=8, torch=(2, 13), memory=512 * 2**30, has_etcd=True)


def settings(**changed: Any) -> dict[str, Any]:
    """Return the defaults with some keys changed; `rendezvous__endpoint` stands for `rendezvous.endpoint`."""
    result = copy.deepcopy(_defaults())
    for key, value in changed.items():
        *groups, name = key.split("__")
        place: Any = result
        for group in groups:
            place = place[group]
        place[name] = value
    return result


@functools.cache
def _defaults() -> dict[str, Any]:
    result: Any = OmegaConf.to_container(OmegaConf.structured(ElasticConfig), resolve=True)
    return dict(result)


def launch(facts: HostFacts = CPU_HOST, environ: dict[str, str] | None = None, **changed: Any) -> Launch:
    """Resolve the defaults with some keys changed."""
    return resolve(settings(**changed), facts, environ or {})
