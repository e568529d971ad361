"""Which CPUs and which memory each worker gets: read the machine, plan, bind, and tell.

Data flows one way: `topology`, `allowance` and `devices` read, `plan` and `slots` decide, and `bind`, which alone has
effects, acts in the worker.
"""

from __future__ import annotations

from elastic_hydra.numa.allowance import Allowance, read_allowance
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.carve import cut, instances, reserve, take, take_instances
from elastic_hydra.numa.devices import visible_accelerators
from elastic_hydra.numa.errors import NumaError, TopologyError
from elastic_hydra.numa.machine import Machine, read_machine
from elastic_hydra.numa.plan import plan
from elastic_hydra.numa.report import render
from elastic_hydra.numa.thread_env import Environment, environment, preload
from elastic_hydra.numa.topology import Device, Topology, read_topology

__all__ = [
    "Allowance",
    "Binding",
    "Device",
    "Environment",
    "Machine",
    "NumaError",
    "Topology",
    "TopologyError",
    "cut",
    "environment",
    "instances",
    "plan",
    "preload",
    "read_allowance",
    "read_machine",
    "read_topology",
    "render",
    "reserve",
    "take",
    "take_instances",
    "visible_accelerators",
]
