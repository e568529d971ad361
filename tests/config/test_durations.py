"""Durations as people write them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from elastic_hydra.config.durations import number_of_seconds
from elastic_hydra.config.errors import ConfigError
from tests.config.settings import CPU_HOST, launch


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90min", 5400), ("1.5h", 5400), ("2 days", 172800), (300, 300), ("45 s", 45), (0.5, 0.5)],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: object, seconds: float) -> None:
    assert number_of_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2 weeks", "-1", "0", "1:30", None, True])
def test_what_is_no_duration_is_refused(text: object) -> None:
    assert number_of_seconds(text) is None


def test_a_job_asks_for_its_time() -> None:
    assert launch(resources__duration="90min").demand.duration == 5400
    assert launch(resources__duration="90min", parallel=2).demand.duration == 5400
    assert launch().demand.duration == 0


def test_a_word_that_is_no_duration_is_named() -> None:
    with pytest.raises(ConfigError, match=r"resources\.duration=soon: must be a time such as 90min, 2h"):
        launch(resources__duration="soon")


def test_a_job_that_takes_longer_than_a_host_is_there_is_refused_at_once() -> None:
    facts = replace(CPU_HOST, time_left=3600.0)
    assert launch(facts, resources__duration="1h").demand.duration == 3600
    with pytest.raises(ConfigError, match="time limit of this host comes in 60 minutes: the job can never run") as told:
        launch(facts, resources__duration="61min")
    assert "hydra.launcher.hosts.timeout_min" in str(told.value)
