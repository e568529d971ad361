"""What Hydra makes of the profiles and of keys on the command line, before anything is launched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from torch.distributed.run import get_args_parser

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.resolve import resolve
from elastic_hydra.config.schema import ElasticConfig
from tests.config.settings import CPU_HOST

# Hydra 1.4 registers what plugins store when it first looks for them; later is too late for its test fixtures.
Plugins.instance()


CONF = Path(__file__).parents[2] / "conf" / "hydra" / "launcher"
PROFILES = sorted(path.relative_to(CONF) for path in CONF.glob("*/*.yaml"))
NEEDS = {
    "hosts/ssh": ["hydra.launcher.hosts.list=[n1,n2]"],
    "rendezvous/etcd": ["hydra.launcher.rendezvous.endpoint=head:2379"],
    "rendezvous/static": ["hydra.launcher.rendezvous.node_rank=0"],
}
"""What a profile leaves to its user."""


def composed(*overrides: str) -> Any:
    # A folder without a configuration; with no folder, Hydra looks at the whole stack to find the app's.
    with initialize_config_dir(str(Path(__file__).parent), version_base=None):
        config = compose(overrides=["hydra/launcher=elastic", *overrides], return_hydra_config=True)
        return config.hydra.launcher


def plain(*overrides: str) -> dict[str, Any]:
    result: Any = OmegaConf.to_container(composed(*overrides), resolve=True)
    return dict(result)


def test_the_promised_profiles_are_there() -> None:
    options = {group: {path.stem for path in PROFILES if path.parent.name == group} for group in _groups()}
    assert options["rendezvous"] >= {"local", "c10d", "static", "etcd"}
    assert options["retry"] >= {"none", "restart"}
    assert options["numa"] >= {"none", "node", "socket", "exclusive", "core-complex"}
    assert options["logs"] >= {"files", "console", "all"}


def _groups() -> set[str]:
    return {path.parent.name for path in PROFILES}


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_every_profile_composes_into_the_schema_and_can_be_launched(profile: Path) -> None:
    option = f"{profile.parent}/{profile.stem}"
    settings = plain(f"hydra/launcher/{profile.parent}={profile.stem}", *NEEDS.get(option, []))
    written = yaml.safe_load((CONF / profile).read_text()) or {}
    for key, value in written.items():
        if key != "defaults":
            assert settings[profile.parent.name][key] == value, key
    resolve(settings, CPU_HOST, {})


def test_the_yaml_defaults_are_the_schema_s() -> None:
    schema = OmegaConf.to_container(OmegaConf.structured(ElasticConfig), resolve=True)
    assert plain() == schema


@pytest.mark.parametrize("profile", [CONF / "elastic.yaml", *(CONF / path for path in PROFILES)], ids=lambda p: p.name)
def test_every_profile_with_defaults_spells_self(profile: Path) -> None:
    written = yaml.safe_load(profile.read_text()) or {}
    assert "_self_" in written.get("defaults", ["_self_"])


def test_single_keys_override_a_profile() -> None:
    launcher = composed("hydra/launcher/retry=restart", "hydra.launcher.retry.max_restarts=5")
    assert launcher.retry.max_restarts == 5


def test_streams_by_local_rank_can_be_given_on_the_command_line() -> None:
    assert composed("hydra.launcher.logs.tee={0: 1, 1: 3}").logs.tee == {0: 1, 1: 3}
    assert composed("hydra.launcher.logs.redirects={1: 2}").logs.redirects == {1: 2}


def test_free_form_options_reach_the_backend_s_configs() -> None:
    assert composed("+hydra.launcher.rendezvous.configs.store_type=tcp").rendezvous.configs == {"store_type": "tcp"}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hydra.launcher.nproc_pernode=2", ["nproc_pernode", "nproc_per_node", "start_method"]),
        ("hydra.launcher.retry.restarts=2", ["restarts", "max_restarts"]),
        ("hydra.launcher.rendezvous.end_point=a:1", ["end_point", "endpoint", "join_timeout"]),
        ("hydra.launcher.logs.tea=3", ["tea", "tee", "redirects"]),
    ],
)
def test_a_typo_in_a_key_is_refused_with_the_keys_that_there_are(override: str, words: list[str]) -> None:
    with pytest.raises(HydraException) as caught:
        composed(override)
    text = f"{caught.value}\n{caught.value.__cause__}"
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("hydra.launcher.monitor_interval=often", "hydra.launcher.monitor_interval"),
        ("hydra.launcher.retry.max_restarts=1.5", "hydra.launcher.retry.max_restarts"),
        ("hydra.launcher.retry.max_restarts=null", "hydra.launcher.retry.max_restarts"),
        ("hydra.launcher.virtual_local_rank=perhaps", "hydra.launcher.virtual_local_rank"),
        ("hydra.launcher.signals_to_handle=SIGTERM", "hydra.launcher.signals_to_handle"),
        ("hydra.launcher.rendezvous.join_timeout=soon", "hydra.launcher.rendezvous.join_timeout"),
        ("hydra.launcher.numa.cpus=nodes", "hydra.launcher.numa.cpus"),
        ("hydra.launcher.rendezvous=c10d", "hydra.launcher.rendezvous"),
        ("hydra.launcher.numa=null", "hydra.launcher.numa"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_key(override: str, key: str) -> None:
    with pytest.raises(HydraException) as caught:
        composed(override)
    assert key in f"{caught.value}\n{caught.value.__cause__}"


def test_an_unknown_option_of_a_group_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        composed("hydra/launcher/rendezvous=tcp")
    assert all(name in str(caught.value) for name in ("local", "c10d", "static", "etcd"))


def test_the_schema_is_not_offered_as_a_launcher() -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        composed("hydra/launcher=elastik")
    listed = str(caught.value).partition("Available options")[2].partition("Config search path")[0]
    options = {line.strip() for line in listed.splitlines()[1:] if line.strip()}
    assert {"elastic", "basic"} <= options
    assert not {option for option in options if "schema" in option or "hydra" in option}


def test_a_new_key_given_with_a_plus_is_refused_before_anything_is_launched() -> None:
    # Hydra lets `+` add keys even to a typed configuration.
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.nproc=2: there is no such key .*nproc_per_node"):
        resolve(plain("+hydra.launcher.nproc=2"), CPU_HOST, {})


# --- torchrun ----------------------------------------------------------------------------------------------------

TORCHRUN = {
    "nnodes": "nodes",
    "nproc_per_node": "nproc_per_node",
    "rdzv_backend": "rendezvous.backend",
    "rdzv_endpoint": "rendezvous.endpoint",
    "rdzv_id": "rendezvous.id",
    "rdzv_conf": "rendezvous.configs",
    "standalone": "rendezvous.backend",
    "max_restarts": "retry.max_restarts",
    "monitor_interval": "monitor_interval",
    "start_method": "start_method",
    "event_log_handler": "event_log_handler",
    "role": "role",
    "log_dir": "logs.dir",
    "redirects": "logs.redirects",
    "tee": "logs.tee",
    "local_ranks_filter": "logs.local_ranks_filter",
    "duplicate_stdout_filters": "logs.duplicate_stdout_filters",
    "duplicate_stderr_filters": "logs.duplicate_stderr_filters",
    "node_rank": "rendezvous.node_rank",
    "master_addr": "rendezvous.endpoint",
    "master_port": "rendezvous.endpoint",
    "local_addr": "rendezvous.local_addr",
    "numa_binding": "numa.cpus",
    "signals_to_handle": "signals_to_handle",
    "shutdown_timeout": "shutdown_timeout",
    "virtual_local_rank": "virtual_local_rank",
    "log_line_prefix_template": "logs.line_prefix",
}
NOT_A_LAUNCHER_S = {
    "help": "",
    "print_completion": "Hydra has its own",
    "module": "the entry point is the app's task function",
    "no_python": "likewise",
    "run_path": "likewise",
    "training_script": "likewise",
    "training_script_args": "likewise",
    "logs_specs": "the layout of a job's folder is ours",
}


def test_every_torchrun_flag_that_makes_sense_for_a_launcher_has_a_key() -> None:
    flags = {action.dest for action in get_args_parser()._actions}
    assert flags - set(TORCHRUN) - set(NOT_A_LAUNCHER_S) == set()
    schema = OmegaConf.structured(ElasticConfig)
    for key in {*TORCHRUN.values(), "exit_barrier_timeout", "omp_num_threads"}:
        group, _, name = key.rpartition(".")
        assert name in (OmegaConf.select(schema, group) if group else schema), key
