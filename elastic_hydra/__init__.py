"""A Hydra launcher that runs every job of a sweep under PyTorch's elastic agent.

The Python interface mirrors `torch.distributed.launcher.api`: `LaunchConfig`, `elastic_launch` and `launch_agent`.
Workers call `heartbeat()` to show that they make progress.

Which process runs what, and whose child it is::

    launcher     the user's app with -m: Hydra's sweeper, hydra_plugins, sweep, resources, journal
    └─ server    supervisor.server: parent and supervisor of all processes of the sweep
       ├─ agent  sweep.agent_process, launcher.api, elastic.agent, watch, failures: one for each job and node
       └─ worker supervisor.entry, sweep.task, then the user's function: one for each rank

An agent asks the server for its workers, so agents and workers are siblings. When the launcher dies, the server ends
all of them; when an agent dies, the server ends its workers; when the server dies, the kernel kills all of them.

The packages, each of which imports only those after it: cli, report, doctor, sweep, resources, launcher, elastic,
watch, failures, supervisor, overview, control, journal, numa, config, compat. Below all of them is `timeouts`: who
waits how long for whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra import main as main

    from elastic_hydra.launcher.api import LaunchConfig as LaunchConfig
    from elastic_hydra.launcher.api import elastic_launch as elastic_launch
    from elastic_hydra.launcher.api import launch_agent as launch_agent
    from elastic_hydra.worker import heartbeat as heartbeat

__version__ = "0.1.0"
__all__ = ["LaunchConfig", "elastic_launch", "heartbeat", "launch_agent", "main"]


def __getattr__(name: str) -> Any:
    # Hydra imports this package in every app on the machine: torch is imported only when one of these is used.
    if name == "heartbeat":  # does without torch; called once per step, so it is found at once from now on
        from elastic_hydra.worker import heartbeat

        globals()[name] = heartbeat
        return heartbeat
    if name == "main":
        from elastic_hydra.sweep.single_run import main

        return main
    if name in __all__:
        from elastic_hydra.launcher import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
