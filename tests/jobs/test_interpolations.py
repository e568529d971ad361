"""All ranks see one configuration, but for what asks for a rank."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from elastic_hydra.jobs.interpolations import evaluate_once
from tests.helpers.apps import App

RESOLVERS = """
import itertools, random
OmegaConf.register_new_resolver("dice", lambda: random.random())
OmegaConf.register_new_resolver("kept_dice", lambda: random.random(), use_cache=True)
OmegaConf.register_new_resolver("rank", lambda: int(os.environ.get("RANK", -1)))
OmegaConf.register_new_resolver("kept_rank", lambda: int(os.getenv("RANK", "-1")), use_cache=True)
"""
BODY = "note(**OmegaConf.to_container(cfg, resolve=True))"
VALUES = {
    "dice": "${dice:}",
    "text": "x${dice:}",
    "same": "${dice}",
    "list": "[${dice:},${kept_dice:}]",
    "rank": "${rank:}",
    "kept_rank": "${kept_rank:}",
    "variable": "${oc.env:RANK,none}",
}


@pytest.mark.system
def test_ranks_see_the_same_values_but_for_those_that_ask_for_the_rank(tmp_path: Path) -> None:
    app = App(tmp_path, BODY, before=RESOLVERS)
    overrides = [f"+{name}={value}" for name, value in VALUES.items()]
    finished = app.run(*overrides, "hydra.launcher.nproc_per_node=2")
    assert finished.returncode == 0, finished.output
    seen = [finished.seen(0, rank) for rank in range(2)]
    for name in ("dice", "text", "same", "list"):
        assert seen[0][name] == seen[1][name], (name, finished.output)
    assert seen[0]["dice"] == seen[0]["same"]
    for name in ("rank", "kept_rank", "variable"):
        assert [int(one[name]) for one in seen] == [0, 1], name


@pytest.fixture
def turn() -> Iterator[None]:
    numbers = itertools.count()
    OmegaConf.register_new_resolver("turn", lambda *_: next(numbers))
    yield
    OmegaConf.clear_resolver("turn")


def test_what_is_evaluated_once_stays_and_other_interpolations_follow(turn: None) -> None:
    config = OmegaConf.create(
        {"a": "${turn:}", "b": "${a}", "inner": {"c": ["${turn:}"]}, "missing": "???", "broken": "${nothing:}"}
    )
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config, True)
    evaluate_once(config)
    assert config.a == config.a
    assert config.b == config.a
    assert config.inner.c[0] == config.inner.c[0]
    assert OmegaConf.is_interpolation(config, "b")
    assert type(os.environ) is os._Environ
