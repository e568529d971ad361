"""`hydra.launcher.detach`: the command that was typed starts its launcher once more, without the terminal, and returns.

::

    python app.py -m … detach=true          composes, starts the same command once more, and returns when it has begun
      └── python app.py -m … hydra.sweep.dir=DIR    in a session of its own, or as a Slurm job: the launcher

The launcher is a fresh process, and no fork of this one: the app may have threads, or CUDA, by now.
"""

from __future__ import annotations

from omegaconf import DictConfig

from elastic_hydra.apps import behind_terminal, submitted
from elastic_hydra.apps.relaunch import Relaunch
from elastic_hydra.config.detach import SLURM, way_of
from elastic_hydra.sweeps.detached import output_of_this_launcher
from elastic_hydra.sweeps.settings import sweep_settings

__all__ = ["detach_if_asked"]


def detach_if_asked(config: DictConfig, *, single: bool) -> None:
    """Start the launcher without the terminal if the configuration asks for that, and this is not that launcher.

    Args:
        config: of the sweep or the run.
        single: whether it is a run without `-m`.

    Raises:
        ConfigError: it cannot be started so.
        SystemExit: it has begun, or has ended before that; with the exit code.
    """
    if output_of_this_launcher():
        return
    settings = sweep_settings(config)
    way = way_of(settings.detach, settings.hosts.engine)
    if way and not settings.dry_run:
        relaunch = Relaunch.of(config, settings, single=single)
        raise SystemExit(submitted.submit(relaunch) if way == SLURM else behind_terminal.start(relaunch))
