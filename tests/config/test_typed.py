"""Launcher files of the user's own, which say `_target_` and a few keys and know nothing of the schema."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.typed import check_resolvable, typed


def launcher(written: dict[str, Any], **app: Any) -> Any:
    config: Any = OmegaConf.create({**app, "hydra": {"launcher": {"_target_": ElasticConfig._target_, **written}}})
    return config.hydra.launcher


def test_a_file_with_a_few_keys_gets_the_defaults_for_the_others() -> None:
    settings = typed(launcher({"nproc_per_node": "${devices}", "retry": {"max_restarts": 3}}, devices=2))
    assert OmegaConf.get_type(settings) is ElasticConfig
    assert (settings.nproc_per_node, settings.retry.max_restarts, settings.retry.max_attempts) == (2, 3, 1)


def test_a_group_may_be_an_interpolation_of_one_elsewhere() -> None:
    assert typed(launcher({"retry": "${mine}"}, mine={"max_restarts": 4})).retry.max_restarts == 4


def test_what_was_composed_with_the_schema_is_left_alone() -> None:
    settings: Any = OmegaConf.structured(ElasticConfig)
    assert typed(settings) is settings


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"nproc": 2}, ["hydra.launcher.nproc=2", "did you mean nproc_per_node?"]),
        ({"logs": {"tea": 3}}, ["hydra.launcher.logs.tea=3", "did you mean tee?"]),
        ({"retry": "transient"}, ["hydra.launcher.retry=transient", "hydra/launcher/retry=NAME"]),
        ({"retry": None}, ["hydra.launcher.retry=null", "max_restarts"]),
        ({"retry": "${nowhere}"}, ["hydra.launcher.retry=${nowhere}", "'nowhere' not found"]),
        ({"retry": {"max_restarts": "x"}}, ["hydra.launcher.retry.max_restarts=x", "Integer"]),
        ({"numa": {"cpus": "nodes"}}, ["hydra.launcher.numa.cpus=nodes", "package"]),
        ({"signals_to_handle": "SIGTERM"}, ["hydra.launcher.signals_to_handle=SIGTERM", "list"]),
    ],
    ids=str,
)
def test_what_the_schema_does_not_have_is_refused_by_name(written: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(launcher(written))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_interpolations_that_lead_nowhere_are_all_named_with_their_keys() -> None:
    problems = Problems()
    written = {"parallel": "${nope}", "watch": {"time_limit": "${n}"}, "signals_to_handle": ["${z}"], "nodes": "${one}"}
    check_resolvable(typed(launcher(written, n="${m}", one=1)), problems)
    named = {line.partition(":")[0].partition("=")[0] for line in problems.lines}
    assert named == {f"hydra.launcher.{key}" for key in ("parallel", "watch.time_limit", "signals_to_handle")}


def test_what_can_be_done_about_an_interpolation_is_said_and_only_the_wanted_keys_are_looked_at() -> None:
    settings = typed(launcher({"parallel": "${nope}", "nodes": "${no}"}))
    problems = Problems()
    check_resolvable(settings, problems, names=["nodes"])
    (line,) = problems.lines
    assert line.startswith("hydra.launcher.nodes=${no}: Interpolation key 'no' not found; name a key that exists")
    assert line.endswith("; name a key that exists, or a value")
