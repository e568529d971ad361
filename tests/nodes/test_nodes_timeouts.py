"""Timeouts that a backend would ignore are translated in the Python interface, and the profiles' make a group quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from elastic_hydra.launcher.api import LaunchConfig

PROFILES = Path(__file__).parents[2] / "conf" / "hydra" / "launcher" / "rendezvous"


@pytest.mark.parametrize(
    ("backend", "given", "expected"),
    [
        ("c10d", {"rdzv_timeout": 33}, {"join_timeout": 33}),
        ("c10d", {"rdzv_configs": {"timeout": 33}}, {"join_timeout": 33}),
        ("c10d", {"rdzv_configs": {"timeout": 33, "join_timeout": 44}}, {"join_timeout": 44}),
        ("etcd-v2", {"rdzv_timeout": 33}, {"join_timeout": 33}),
        ("etcd", {"rdzv_timeout": 33}, {"timeout": 33}),
        ("static", {"rdzv_timeout": 33}, {"timeout": 33}),
    ],
)
def test_translated(backend: str, given: dict[str, Any], expected: dict[str, int]) -> None:
    config = LaunchConfig(1, 2, 1, rdzv_backend=backend, rdzv_endpoint="localhost:29400", **given)
    assert expected.items() <= config.rdzv_configs.items()


def test_the_profile_of_c10d() -> None:
    profile = yaml.safe_load((PROFILES / "c10d.yaml").read_text())
    assert profile["last_call_timeout"] <= 5, "a lone node waits this long before it starts"
    assert 4 <= profile["keep_alive_interval"] * profile["keep_alive_max_attempt"] <= 10, "so long until a loss counts"
    assert profile["join_timeout"] >= 300, "nodes of a cluster do not start together"
