"""For which hosts jobs are composed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from elastic_hydra.sweeps import composer
from elastic_hydra.sweeps.composer import Composer


@dataclass
class Job:
    num: int
    facts: list[str]
    launch: str = ""
    env_set: tuple[str, ...] = ()


class Host:
    """One that every job fits."""

    facts = "8 CPUs"
    allocator: Any

    def __init__(self) -> None:
        self.allocator = self

    def fitted(self, launch: str, _: object) -> str:
        return f"{launch}fitted"


class Nothing:
    """The history of a sweep that begins, but for jobs whose end is recorded."""

    def __init__(self) -> None:
        self.recorded: dict[int, Any] = {}

    def output_dir(self, _: int) -> None:
        return None

    def settled(self, _: int) -> str:
        return "finished"


def test_jobs_are_composed_for_the_hosts_that_were_there_last_while_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(composer, "compose", lambda context, config, facts, num, *_: Job(num, facts))
    hosts: dict[str, Any] = {"n1": Host()}
    nothing: Any = Nothing()
    of_sweep = Composer(nothing, nothing, nothing, hosts, nothing)
    before: Any = of_sweep.compose(0, [])
    hosts.clear()
    during: Any = of_sweep.compose(1, [])
    assert (before.facts, before.launch) == (during.facts, during.launch) == (["8 CPUs"], "fitted")
