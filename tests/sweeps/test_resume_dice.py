"""What holds for every sequence of sweeps, extensions, kills and resumes of one directory.

Each job has a number, a directory and a value of its own, and each launcher comes to its end.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from elastic_hydra.journal import lock
from elastic_hydra.sweeps import kept_server, returns
from elastic_hydra.sweeps.agents import Agents
from tests.helpers import batches
from tests.sweeps.fake_server import FakeServer, KilledError, end_of

pytestmark = pytest.mark.system

SEEDS = [pytest.param(seed, marks=[] if seed < 6 else pytest.mark.slow) for seed in range(12)]
BY_NUMBER = ["${hydra.job.num}", "${now:%f}/${hydra.job.num}", "a b/${hydra:job.num}=é", "${resume_turn:}"]
BY_VALUE = ["${x}", "${hydra.job.override_dirname}", "${oc.env:RESUME_PLACE}/${x}", "${resume_turn:}_${x}", "../z_${x}"]


def value(x: int) -> float:
    return x / 7


class Model:
    """What is known from outside about one directory and all launchers that have been at work there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[tuple[int, Path]] = []

    def lines(self) -> list[dict[str, Any]]:
        path = self.folder / "journal.jsonl"
        texts = path.read_text().splitlines() if path.exists() else []
        # A launcher that was killed leaves half a line.
        return [json.loads(text) for text in texts if text.endswith("}") and text.count("{") == text.count("}")]

    def finished(self) -> set[int]:
        """Return the numbers of the jobs whose last run has finished."""
        last = {line["num"]: line for line in self.lines() if line["event"] in ("start", "end")}
        return {num for num, line in last.items() if line.get("state") == "finished"}

    def check(self) -> None:
        overrides: dict[int, list[str]] = {}
        directories: dict[int, Path] = {}
        for line in self.lines():
            if line["event"] == "job":
                assert overrides.setdefault(line["num"], line["overrides"]) == line["overrides"]
                assert directories.setdefault(line["num"], Path(line["dir"])) == Path(line["dir"])
            elif line["event"] == "end" and line["state"] == "finished":
                assert line["value"] == value(_x(overrides[line["num"]]))
        assert len(set(directories.values())) == len(directories)
        assert all(directories[num] == where for num, where in self.ran)


@pytest.fixture
def monkey() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("seed", SEEDS)
def test_each_job_has_a_number_a_directory_and_a_value_of_its_own_and_nothing_hangs(
    seed: int, tmp_path: Path, monkey: pytest.MonkeyPatch
) -> None:
    dice, turns = random.Random(seed), itertools.count()
    OmegaConf.register_new_resolver("resume_turn", lambda: next(turns), replace=True)
    monkey.setattr(returns, "of", end_of)
    model = Model(tmp_path / "sweep")
    repeated = dice.random() < 0.5
    subdir = dice.choice(BY_NUMBER if repeated else BY_NUMBER + BY_VALUE)
    most = dice.choice([3, 3, 10, 10, 34, 200])
    for turn in range(dice.randint(2, 5)):
        monkey.setenv("RESUME_PLACE", f"place{turn}")
        monkey.setattr(lock, "_held", {})
        mode = "false" if turn == 0 else dice.choice(["true", "true", "all", "failed", "interrupted"])
        finished, earlier = model.finished(), len(model.ran)
        try:
            _launch(dice, monkey, model, subdir, mode, _jobs(dice, most, repeated))
        finally:
            for fd in lock._held.values():
                os.close(fd)
        model.check()
        if mode not in ("false", "all"):
            assert not finished & {num for num, _ in model.ran[earlier:]}


def _jobs(dice: random.Random, most: int, repeated: bool) -> list[int]:
    """Throw the values of x of a sweep: a range, a part of it in any order, or longer than before."""
    xs = list(range(dice.randint(1, most)))
    if dice.random() < 0.5:
        xs = dice.sample(xs, dice.randint(1, len(xs)))
    return xs + dice.choices(xs, k=dice.randint(0, 3)) if repeated else xs


def _launch(
    dice: random.Random, monkey: pytest.MonkeyPatch, model: Model, subdir: str, mode: str, xs: list[int]
) -> None:
    """Run one launcher, to its end or until it is killed."""
    parallel = dice.choice([1, 1, 2, 5])
    dying = dice.choice([0.0, 0.0, 0.02, 0.1])
    server = FakeServer(dice, lambda cfg: value(cfg.x), dice.choice([0.0, 0.2]), dying, parallel)
    monkey.setattr(kept_server, "open_server", server.open)
    size = len(xs) if dice.random() < 0.6 else dice.randint(1, 3)  # a grid, or an adaptive sweeper
    parts = [[[f"+x={x}"] for x in xs[start : start + size]] for start in range(0, len(xs), size)]
    settings = [f"hydra.launcher.parallel={parallel}", f"hydra.launcher.resume={mode}"]
    killed_at: list[int] = []
    monkey.setattr(Agents, "stop", lambda *_: killed_at.append((model.folder / "journal.jsonl").stat().st_size))
    try:
        with batches.sweep(print, model.folder, *settings, f"hydra.sweep.subdir='{subdir}'") as launch_batch:
            returned = [one for part in parts for one in launch_batch(*part)]
    except KilledError:
        half = dice.randint(0, 40) if dice.random() < 0.5 else 0
        os.truncate(model.folder / "journal.jsonl", max(1, killed_at[0] - half))
        return
    finally:
        model.ran += server.ran
    assert len(returned) == len(xs)
    for x, one in zip(xs, returned, strict=True):
        if one.status.name == "COMPLETED":
            assert one.return_value == value(x)
            assert one.cfg is not None
            assert one.cfg.x == x


def _x(overrides: list[str]) -> int:
    return int(overrides[-1].partition("=")[2])
