"""`hydra.launcher.detach` and `sbatch`: which way is taken, and what each key may be."""

from __future__ import annotations

from typing import Any

import pytest

from elastic_hydra.config.detach import LOCAL, SLURM, check_detach, way_of
from elastic_hydra.config.problems import Problems
from elastic_hydra.config.whole_sweep import whole_sweep_of
from tests.config.settings import settings


def lines(**changed: Any) -> list[str]:
    problems = Problems()
    check_detach(whole_sweep_of(settings(**changed)), problems)
    return [line.removeprefix("hydra.launcher.") for line in problems.lines]


@pytest.mark.parametrize(
    ("detach", "engine", "way"),
    [
        (False, "slurm", ""),
        ("false", "local", ""),
        (True, "local", LOCAL),
        (True, "ssh", LOCAL),
        (True, "slurm", SLURM),
        ("true", "allocation", SLURM),
        ("local", "slurm", LOCAL),
        ("slurm", "local", SLURM),
    ],
)
def test_true_chooses_by_the_hosts(detach: Any, engine: str, way: str) -> None:
    assert way_of(detach, engine) == way


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"detach": True},
        {"detach": "slurm", "sbatch__partition": "cpu", "sbatch__timeout_min": 60, "sbatch__nodes": 4},
        {"sbatch__name": "lr-sweep.2", "sbatch__additional_parameters": {"mail-type": "FAIL", "no-requeue": True}},
    ],
    ids=str,
)
def test_what_may_be_said_passes(changed: dict[str, Any]) -> None:
    assert lines(**changed) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"detach": "slrum"}, "detach=slrum: must be one of false, true, local, slurm (did you mean slurm?)"),
        ({"detach": True, "debug": "rank0"}, "detach=true: debug=rank0 needs the terminal: leave out one of the two"),
        ({"sbatch__nodes": 0}, "sbatch.nodes=0: must be more than 0"),
        ({"sbatch__name": "a b"}, "sbatch.name=a b: must consist of letters, digits, and . + - _"),
        ({"sbatch__signal_delay_s": -1}, "sbatch.signal_delay_s=-1: must be 0 or more (seconds)"),
        (
            {"sbatch__additional_parameters": {"open_mode": "append"}},
            "sbatch.additional_parameters.open_mode=append: its output is in the sweep's directory: leave it out",
        ),
        (
            {"sbatch__additional_parameters": {"time": 5}},
            "sbatch.additional_parameters.time=5: set sbatch.timeout_min instead",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(changed: dict[str, Any], line: str) -> None:
    assert lines(**changed) == [line]
