"""Hydra's own conformance suites for launchers, with one worker and with two."""

import hydra
import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

from hydra_plugins.elastic_hydra_launcher.launcher import ElasticLauncher

pytestmark = pytest.mark.system

# Hydra 1.4's fixtures save and restore a ConfigStore that must have the plugins' entries by then.
Plugins.instance()

WORKERS = ["hydra.launcher.nproc_per_node=1", "hydra.launcher.nproc_per_node=2"]
START_METHODS = ["warm", "spawn"]


@pytest.mark.smoke
def test_discovery() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Launcher)]
    assert names.count(ElasticLauncher.__name__) == 1


@pytest.mark.smoke
@pytest.mark.parametrize(("launcher_name", "overrides"), [("elastic", [workers]) for workers in WORKERS])
class TestLauncher(LauncherTestSuite):
    """Composition, results, resolvers, failures."""


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("elastic", [workers, "hydra.sweeper.max_batch_size=2"]) for workers in WORKERS]
)
class TestBatches(BatchedSweeperTestSuite):
    """Several calls of the launcher in one sweep."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=elastic", "hydra/job_logging=disabled", workers]) for workers in WORKERS],
)
class TestIntegration(IntegrationTestSuite):
    """Apps in processes of their own: names, directories, logging."""


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("elastic", ["hydra.launcher.start_method=spawn", WORKERS[0]])]
)
class TestSpawned:
    """The parts of the suite that depend on what a worker inherits, with workers that inherit nothing."""

    test_sweep_with_custom_resolver = LauncherTestSuite.test_sweep_with_custom_resolver
    test_sweep_1_job = LauncherTestSuite.test_sweep_1_job
    if hasattr(LauncherTestSuite, "test_failure_preserves_task_traceback"):
        test_failure_preserves_task_traceback = LauncherTestSuite.test_failure_preserves_task_traceback

    @pytest.fixture(autouse=True)
    def restore(self, hydra_restore_singletons: None) -> None:
        """As the suite's own classes do."""

    def get_task_function(self) -> object:
        return LauncherTestSuite.get_task_function(self)  # type: ignore[arg-type]


if tuple(map(int, hydra.__version__.split(".")[:2])) >= (1, 4):

    def test_the_suite_is_complete() -> None:
        assert hasattr(LauncherTestSuite, "test_failure_preserves_task_traceback")
