"""A Hydra launcher that runs every job of a sweep under PyTorch's elastic agent.

`main` decorates an app in place of `hydra.main`, and launches its runs without `-m`, too. `sweep` and `run` launch an
app from Python. `LaunchConfig`, `elastic_launch` and `launch_agent` mirror `torch.distributed.launcher.api`.
Workers call `heartbeat()` to show that they make progress.

Which process runs what, and whose child it is::

    launcher     the user's app with -m, or with `main`: Hydra's sweeper, apps, sweeps, resources, journal
    └─ server    supervisor.server: parent and supervisor of all processes of the sweep
       ├─ agent  jobs.agent_process, launcher.api, elastic.agent, watch, failures: one for each job and node
       └─ worker supervisor.entry, jobs.task, then the user's function: one for each rank

An agent asks the server for its workers, so agents and workers are siblings. When the launcher dies, the server ends
all of them; when an agent dies, the server ends its workers; when the server dies, the kernel kills all of them.

The packages, each of which imports only those after it: cli, report, doctor, apps, sweeps, live, resources, jobs,
launcher, elastic, watch, failures, supervisor, overview, control, journal, numa, torchrun, config, compat. Below all of
them is `timeouts`: who waits how long for whom.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra import main as main

    from elastic_hydra.apps.launched import JobResult as JobResult
    from elastic_hydra.apps.launched import LaunchedSweep as LaunchedSweep
    from elastic_hydra.apps.launched import run as run
    from elastic_hydra.apps.launched import sweep as sweep
    from elastic_hydra.launcher.api import LaunchConfig as LaunchConfig
    from elastic_hydra.launcher.api import elastic_launch as elastic_launch
    from elastic_hydra.launcher.api import launch_agent as launch_agent
    from elastic_hydra.worker import heartbeat as heartbeat

__version__ = "0.1.0"
__all__ = [
    "JobResult",
    "LaunchConfig",
    "LaunchedSweep",
    "elastic_launch",
    "heartbeat",
    "launch_agent",
    "main",
    "run",
    "sweep",
]

_PLACES = {
    "heartbeat": "elastic_hydra.worker",  # does without torch
    "main": "elastic_hydra.apps.single_run",
    **dict.fromkeys(("JobResult", "LaunchedSweep", "run", "sweep"), "elastic_hydra.apps.launched"),
    **dict.fromkeys(("LaunchConfig", "elastic_launch", "launch_agent"), "elastic_hydra.launcher.api"),
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    # Hydra imports this package in every app on the machine: what a name needs is imported when it is first used.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = found  # `heartbeat` is called once per step
    return found
