"""`hydra.launcher.debug`: what it may be, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.errors import ConfigError
from tests.config.settings import launch

PARALLEL = "=rank0: needs hydra.launcher.parallel=1: several jobs cannot share the terminal"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"debug": "rank"}, "=rank: must be rank0, rank1 and so on, post_mortem, or null"),
        ({"debug": "rank-1"}, "=rank-1: must be rank0, rank1 and so on, post_mortem, or null"),
        (
            {"debug": "rank4", "nproc_per_node": 4},
            "=rank4: with hydra.launcher.nproc_per_node=4 there is rank0 to rank3 only",
        ),
        ({"debug": "rank1"}, "=rank1: with hydra.launcher.nproc_per_node=1 there is rank0 only"),
        ({"debug": "rank0", "parallel": 2}, PARALLEL),
        ({"debug": "rank0", "parallel": "auto"}, PARALLEL),
    ],
)
def test_who_cannot_have_the_terminal(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        launch(**values)
    assert str(caught.value) == f"hydra.launcher.debug{why}"


def test_several_nodes_are_not_debugged() -> None:
    with pytest.raises(ConfigError, match=r"hydra.launcher.debug=post_mortem: needs hydra.launcher.nodes=1"):
        launch(debug="post_mortem", nodes=2)


@pytest.mark.parametrize("debug", ["rank1", "post_mortem"])
def test_no_limit_holds_and_nothing_is_tried_again(debug: str) -> None:
    limits: dict[str, Any] = {"watch__time_limit": 60.0, "watch__progress_limit": 5.0, "retry__max_restarts": 3}
    keys = launch(debug=debug, nproc_per_node=2, retry__max_attempts=3, **limits).keys
    assert not keys.watch.is_on()
    assert (keys.retry.max_restarts, keys.retry.max_attempts) == (0, 1)


def test_the_output_of_the_rank_that_has_the_terminal_is_not_captured() -> None:
    debugged = launch(debug="rank0", nproc_per_node=3)
    assert (debugged.redirects, debugged.tee) == ({1: 3, 2: 3}, {})
    debugged = launch(debug="rank2", nproc_per_node=3)
    assert (debugged.redirects, debugged.tee) == ({0: 3, 1: 3}, {0: 3})
    debugged = launch(debug="post_mortem", nproc_per_node=3)
    assert debugged.redirects == launch(nproc_per_node=3).redirects


INLINE = "must be 1 with hydra.launcher.start_method=inline: this process is the only worker"


def test_jobs_in_the_launcher_s_process_are_of_one_worker() -> None:
    with pytest.raises(ConfigError) as caught:
        launch(start_method="inline", nproc_per_node=2, nodes=2, parallel="auto", debug="rank0")
    said = str(caught.value).splitlines()
    for line in (f"nproc_per_node=2: {INLINE}", f"nodes=2: {INLINE}", f"parallel=auto: {INLINE}"):
        assert f"hydra.launcher.{line}" in said
    assert (
        "hydra.launcher.debug=rank0: means nothing with hydra.launcher.start_method=inline: leave one of them out"
        in said
    )
    keys = launch(start_method="inline", watch__time_limit=5.0).keys
    assert not keys.watch.is_on()
