"""A Hydra launcher that runs every job of a sweep under PyTorch's elastic agent.

The Python interface mirrors `torch.distributed.launcher.api`: `LaunchConfig`, `elastic_launch` and `launch_agent`.
Workers call `heartbeat()` to show that they make progress.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elastic_hydra.launcher.api import LaunchConfig as LaunchConfig
    from elastic_hydra.launcher.api import elastic_launch as elastic_launch
    from elastic_hydra.launcher.api import launch_agent as launch_agent
    from elastic_hydra.launcher.heartbeat import heartbeat as heartbeat

__version__ = "0.1.0"
__all__ = ["LaunchConfig", "elastic_launch", "heartbeat", "launch_agent"]

# In the wheel the profiles are the sub-package elastic_hydra.conf. In a checkout (editable install) they lie beside
# this package; Hydra ignores a configuration package that it cannot import without a word, so make it importable.
_here = Path(__file__).parent
if not (_here / "conf").is_dir() and (_here.parent / "conf" / "__init__.py").is_file():
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> Any:
    # Hydra imports this package in every app on the machine: torch is imported only when one of these is used.
    if name == "heartbeat":  # does without torch; called once per step, so it is found at once from now on
        from elastic_hydra.launcher.heartbeat import heartbeat

        globals()[name] = heartbeat
        return heartbeat
    if name in __all__:
        from elastic_hydra.launcher import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
