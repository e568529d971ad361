"""The tool that tests over versions: what it finds, what it asks for, and what it says in the end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from tests.versions import report
from tests.versions.__main__ import combinations
from tests.versions.combination import ROOT as CHECKOUT
from tests.versions.combination import TESTS, Combination, Outcome
from tests.versions.interpreters import PYTHONS, find
from tests.versions.torch_releases import select

HERE = ".".join(map(str, sys.version_info[:2]))
OUTCOMES = {
    Combination("3.10", "2.9", "1.3"): Outcome("passes", "300 passed", "2.9.1"),
    Combination("3.10", "2.13", "1.3"): Outcome("fails", "tests/config/test_typed.py::test_a", "2.13.0"),
    Combination("3.12", "2.9", "1.3"): Outcome("not tested", "no Python 3.12 found"),
    Combination("3.12", "2.13", "1.3"): Outcome("not tested", "no Python 3.12 found"),
}


@pytest.mark.system
def test_the_running_python_is_found() -> None:
    assert find()[HERE] == Path(sys.executable)


@pytest.mark.system
def test_a_named_interpreter_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    assert find([tmp_path / "python"])[HERE] == tmp_path / "python"


@pytest.mark.system
def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"not a Python of 3\.10"):
        find([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        (True, [Combination("3.10", "2.9", "1.3"), Combination("3.14", "2.14", "1.4")]),
        (
            False,
            [
                Combination(python, torch, hydra)
                for python in PYTHONS
                for torch in ("2.9", "2.14")
                for hydra in ("1.3", "1.4")
            ],
        ),
    ],
)
def test_corners_are_the_oldest_and_the_newest(corners: bool, expected: list[Combination]) -> None:
    options = argparse.Namespace(python=PYTHONS, torch=["2.9", "2.14"], hydra=["1.3", "1.4"], corners=corners)
    assert combinations(options) == expected


def test_releases_of_torch_end_with_the_one_that_pip_would_install() -> None:
    listed = (
        "torch (2.15.0)\nAvailable versions: 2.15.0, 2.14.1, 2.14.0, 2.13.0+cpu, 2.10.0, 2.9.1, 2.9.0, 2.8.0, 1.13.1"
    )
    assert select(listed, "2.14.1") == ["2.9", "2.10", "2.13", "2.14"]
    assert select(listed, "2.13.0+cpu") == ["2.9", "2.10", "2.13"]


def test_the_tests_that_are_run_exist() -> None:
    assert [path for path in TESTS if not (CHECKOUT / path).exists()] == []


def test_the_table_has_a_row_per_python_and_hydra_and_a_column_per_torch() -> None:
    assert report.table(OUTCOMES).splitlines() == [
        "| Python | hydra-core | torch 2.9 | torch 2.13 |",
        "| --- | --- | --- | --- |",
        "| 3.10 | 1.3 | yes | **no** |",
        "| 3.12 | 1.3 | not tested | not tested |",
    ]


def test_it_says_once_why_something_was_not_tested() -> None:
    assert report.not_tested(OUTCOMES).splitlines() == [
        "Without a result:",
        "* not tested, 2 of 4: no Python 3.12 found",
    ]
