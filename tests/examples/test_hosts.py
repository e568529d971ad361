"""The profiles for hosts: what they say can be launched, and the guide's table names keys that there are."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.engines import engine_of
from elastic_hydra.hosts.slurm import options_of
from elastic_hydra.sweeps.settings import hosts_keys_of, sweep_settings
from tests.examples.pages import EXAMPLES
from tests.hosts.hosts import connect, is_there

# Hydra 1.4 registers what plugins store when it first looks for them; later is too late for its test fixtures.
Plugins.instance()

CONF = EXAMPLES / "hosts" / "conf"
PROFILES = sorted(path.stem for path in (CONF / "launch").glob("*.yaml"))
GUIDE = EXAMPLES.parent / "docs" / "guides" / "slurm.md"


def keys_of(profile: str) -> HostsConfig:
    with initialize_config_dir(str(EXAMPLES / "digits" / "conf"), version_base="1.3", job_name="train"):
        overrides = [f"launch={profile}", f"hydra.searchpath=[file://{CONF}]"]
        config = compose("config", overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # for ${hydra:…}
        return hosts_keys_of(sweep_settings(config))


CONTAINERS = """\
#!/bin/sh
test "$1 $2 $3" = "exec -i c1" || { echo "No such container: $3" >&2; exit 1; }
shift 3
exec "$@"
"""
"""A docker whose only container is this machine."""


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_says_nothing_that_is_refused(profile: str) -> None:
    assert keys_of(profile).engine == profile


def test_the_profile_for_slurm_is_what_slurm_is_asked() -> None:
    keys = keys_of("slurm")
    assert keys.name == "train"
    assert {"--partition=gpu", "--time=240", "--gpus-per-node=4", "--mem=131072M", "--mail-type=FAIL"} <= {
        *options_of(keys)
    }


def test_keys_that_move_from_submitit_are_keys_here() -> None:
    same = re.search(r"^\| (`partition`.*?) \|", GUIDE.read_text(), re.MULTILINE)
    assert same is not None
    names = re.findall(r"`(\w+)`", same[1])
    assert set(names) <= {field.name for field in dataclasses.fields(HostsConfig)}
    assert len(names) > 10


@pytest.mark.system
def test_containers_are_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text(CONTAINERS)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.syspath_prepend(EXAMPLES)
    engine = engine_of(HostsConfig(engine="hosts.containers", list=["c1", "c2"]))
    assert engine is not None
    assert engine.places() == ("c1", "c2")
    with contextlib.closing(connect(engine.transport("c1"))) as host:
        assert is_there(host), host.fate
    with contextlib.closing(connect(engine.transport("c2"))) as host:
        assert not is_there(host)
        assert "container c2 has not started a host process" in host.fate
        assert "No such container: c2" in host.fate


@pytest.mark.parametrize("returned", ["None", "object()"])
def test_a_way_that_lacks_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returned: str) -> None:
    module = f"ways_{returned.strip('()')}"
    (tmp_path / module).mkdir()
    (tmp_path / module / "lacking.py").write_text(f"def engine(keys): return {returned}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"engine={module}.lacking: .* needs is_elastic, places and transport"):
        engine_of(HostsConfig(engine=f"{module}.lacking"))
