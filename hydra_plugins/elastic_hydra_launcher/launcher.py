"""What Hydra discovers: the launcher and the way to its YAML profiles.

Hydra imports this module in every app on the machine, and at every TAB: nothing here imports torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigNode, ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

import elastic_hydra
from elastic_hydra.config.profiles import profile_folder

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from elastic_hydra.sweeps.sweep import Sweep


_SCHEMA = "elastic_hydra_launcher.yaml"
"""Name of the schema in Hydra's store."""


@functools.cache
def _schema() -> Any:
    from elastic_hydra.config.schema import ElasticConfig

    return OmegaConf.structured(ElasticConfig)


class _Schema(ConfigNode):
    """The schema in Hydra's store, made when it is first loaded: that takes 20 ms, and most apps never do."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA, None, group=None, package=None, provider="elastic_hydra")  # type: ignore[arg-type]

    @property
    def node(self) -> Any:
        """Return the configuration; the store gives each reader a copy."""
        from elastic_hydra.apps.selected import watch_start

        watch_start()  # here, since it is read where the launcher is selected, and nowhere else
        return _schema() if self._copy is None else self._copy

    @node.setter
    def node(self, value: Any) -> None:
        self._copy: Any = value


# In no group, as Hydra's own schema: it is offered neither as a launcher nor in the help of any app.
ConfigStore.instance().repo[_SCHEMA] = _Schema()


class ElasticSearchPath(SearchPathPlugin):
    """Adds our profiles behind the app's own configuration."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See Hydra."""
        search_path.append(provider="elastic_hydra", path=_profiles())


def _profiles() -> str:
    """Say where the profiles are, so that Hydra finds them.

    Hydra passes over a place that it cannot find without a word, and then composes the names of the profiles.
    """
    folder = profile_folder()
    package = Path(elastic_hydra.__file__).resolve().parent
    return "pkg://elastic_hydra.conf" if folder.parent == package else f"file://{folder}"


class ElasticLauncher(Launcher):
    """Runs every job of a sweep under an elastic agent.

    Args:
        settings: `hydra.launcher`, as for the sweep. What concerns one job is read from that job's own configuration.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self._sweep: Sweep | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""
        from elastic_hydra.apps.selected import refusals
        from elastic_hydra.compat.hydra_loader import remember_composition
        from elastic_hydra.config.typed import resolved
        from elastic_hydra.sweeps.start import SWEEP_DIR, check_start

        with refusals():  # now: next, the sweeper writes into the sweep's directory
            check_start(SWEEP_DIR, str(resolved(config.hydra.sweep, "dir", SWEEP_DIR)))
        remember_composition(hydra_context.config_loader)
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs.

        Args:
            job_overrides: of each job.
            initial_job_idx: number of the first one.

        Returns:
            one `JobReturn` per job, in their order; a failed one carries its exception.

        Raises:
            SystemExit: with code 2 when the configuration is refused, before anything has started; with 128 plus its
                number when a signal has ended the sweep.
        """
        from elastic_hydra.apps.selected import refusals
        from elastic_hydra.sweeps.sweep import Sweep

        assert self.hydra_context is not None
        assert self.task_function is not None
        assert self.config is not None
        with refusals():
            # One for all batches: an adaptive sweeper comes here many times.
            self._sweep = self._sweep or Sweep(self.hydra_context, self.task_function, self.config)
            return self._sweep.run(job_overrides, initial_job_idx)
