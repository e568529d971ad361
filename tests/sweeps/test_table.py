"""The last screen of a sweep, and what is left of it in files."""

from __future__ import annotations

import csv
import logging
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from omegaconf import OmegaConf

from elastic_hydra.overview.words import duration
from elastic_hydra.sweeps.job_end import NOT_STARTED, JobEnd
from elastic_hydra.sweeps.rerun import how_to_go_on
from elastic_hydra.sweeps.results import Results
from elastic_hydra.sweeps.table import fastest, kept, render, shown_value


def job(num: int, state: str = "finished", value: Any = None, *overrides: str, reason: str = "") -> JobEnd:
    reason = reason or ("" if state == "finished" else f"because of {num}")
    return JobEnd(num, overrides or (f"x={num}",), state, reason, Path("logs"), value, 1.5, 1)


def numbers(table: str) -> list[int]:
    return [int(line.split()[0][1:]) for line in table.splitlines() if line.startswith("#")]


def test_the_table_shows_each_job_and_once_why_one_failed() -> None:
    table = render([job(0), job(1, "failed", reason="because"), job(2, "failed", reason="because")])
    assert table.splitlines()[0] == "1 finished, 2 failed"
    assert render([job(1, "failed"), job(0)]).splitlines()[0] == "1 finished, 1 failed"
    assert table.count("because") == 1
    assert "x=0" in table


def test_overrides_that_all_jobs_have_stand_once_above_the_table() -> None:
    table = render([job(n, "finished", 1.0, "model=big", f"lr={n}", "hydra.launcher.parallel=2") for n in range(3)])
    assert table.count("model=big") == 1
    assert "hydra.launcher" not in table
    assert [f"lr={n}" in table for n in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("maximize", "order"), [(None, [0, 1, 2, 3, 4]), (True, [1, 0, 3, 2, 4]), (False, [3, 0, 1, 2, 4])]
)
def test_the_best_stands_first_only_where_it_is_known_what_is_better(maximize: bool | None, order: list[int]) -> None:
    values = [0.0, 2.5, float("nan"), -1, "text"]
    assert numbers(render([job(n, "finished", value) for n, value in enumerate(values)], maximize)) == order


def test_the_fastest_of_those_that_ran_is_told_with_the_next_one() -> None:
    states = {2.0: "finished", 1.5: "finished", 1.0: "failed", 3.0: "finished"}
    jobs = [replace(job(n, state), seconds=seconds) for n, (seconds, state) in enumerate(states.items())]
    assert fastest(jobs) == "fastest: x=1 (1.50 s); next: x=0 (2.00 s, +33%)"
    assert fastest([replace(one, recorded=True) for one in jobs]) == ""
    assert fastest(jobs[1:3]) == ""


@pytest.mark.parametrize(
    ("states", "maximize", "shown"),
    [
        (["finished"] * 200, None, list(range(10))),
        (["finished"] * 200, True, list(range(199, 189, -1))),
        (["finished"] * 50 + ["failed"] + ["finished"] * 149, None, [*range(10), 50]),
        (["failed"] * 200, None, list(range(20))),
        (["finished"] * 5 + [NOT_STARTED] * 195, None, list(range(5))),
        (["finished"] * 40, None, list(range(40))),
    ],
)
def test_of_many_jobs_the_best_and_the_failed_are_shown_and_where_the_rest_is(
    states: list[str], maximize: bool | None, shown: list[int]
) -> None:
    jobs = [job(n, state, float(n)) for n, state in enumerate(states)]
    table = render(jobs, maximize, Path("out/results.csv"))
    assert numbers(table) == shown
    assert ("which are in out/results.csv" in table) == (len(shown) < len(jobs))
    assert sorted(numbers(render(jobs, maximize))) == list(range(len(jobs)))


class Large:
    def __repr__(self) -> str:
        return "x" * 10_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456789, "0.123457"),
        (1e-12, "1e-12"),
        (12345678, "12345678"),
        (True, "True"),
        (None, ""),
        ((0.1234567, 3), "(0.123457, 3)"),
        ({"loss": 0.1234567}, "{'loss': 0.123457}"),
        (b"x" * 10**8, "100000000 bytes"),
        ("two\nlines", "'two\\nlines'"),
    ],
)
def test_a_value_is_shown_with_the_digits_that_matter(value: Any, text: str) -> None:
    assert shown_value(value) == text
    assert shown_value(kept(value)) == text


@dataclass
class Result:
    accuracy: float
    rest: Any = None


class Pair(NamedTuple):
    left: float
    right: Any


class Untold:
    def __repr__(self) -> str:
        raise AssertionError("is not asked for its text")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Result(0.5, "a"), "Result(accuracy=0.5, rest='a')"),
        (Pair(0.5, [1]), "Pair(left=0.5, right=[1])"),
        (SimpleNamespace(a=1), "SimpleNamespace(a=1)"),
        (OrderedDict(a=1), "{'a': 1}"),
        (Result, repr(Result)),
    ],
)
def test_a_value_of_a_class_is_shown_by_its_parts(value: Any, text: str) -> None:
    assert shown_value(value) == text


@pytest.mark.parametrize("make", [partial(Result, 0.5), partial(Pair, 0.5), partial(OrderedDict, x=1)])
def test_no_more_of_a_large_value_is_written_down_than_is_shown(make: Any) -> None:
    parts = [[None] * 100 + [Untold()]]
    value = make(y=parts) if make.func is OrderedDict else make(parts)
    assert shown_value(value).count("None") in (5, 6)  # the sixth may be beyond the width of the column


@pytest.mark.parametrize("value", ["x" * 10**7, list(range(10**6)), Large(), dict.fromkeys(range(10**5), "y" * 99)])
def test_a_large_value_is_neither_shown_nor_kept_as_a_whole(value: Any) -> None:
    assert len(shown_value(value)) <= 60
    assert len(kept(value)) <= 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (12.3, "12 s"), (540, "9 min"), (3 * 3600, "3 h"), (75 * 3600, "3 days 3 h")],
)
def test_a_duration_is_told_in_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class _Context:
    """As Hydra's, as far as callbacks go."""

    def __init__(self) -> None:
        self.callbacks = SimpleNamespace(callbacks=[])

    def end(self) -> None:
        for callback in self.callbacks.callbacks:
            callback.on_multirun_end(config=None)


def results(folder: Path, **sweeper: Any) -> tuple[Results, _Context]:
    context = _Context()
    config = OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": {"hydra": [], "task": []}}})
    return Results(context, config, folder), context  # type: ignore[arg-type]


def test_sweepers_with_many_batches_get_one_table_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    collected, context = results(tmp_path, _target_="x.OptunaSweeper", direction="minimize", n_trials=3)
    for number, value in enumerate((0.3, 0.1, 0.2)):
        collected.plan(1)
        collected.finished(job(number, "finished", value))
        collected.end_of_batch("", tmp_path, last=False)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("#0 finished: 0.3 in 1.5 s (1 of 3)")
    assert said[2] == "#2 finished: 0.2 in 1.5 s (3 of 3)"
    assert not (tmp_path / "results.csv").exists()
    context.end()
    context.end()
    tables = [record.getMessage() for record in caplog.records if "overrides" in record.getMessage()]
    assert [numbers(table) for table in tables] == [[1, 2, 0]]


def test_the_table_and_all_results_are_left_in_files(tmp_path: Path) -> None:
    collected, _ = results(tmp_path, _target_="hydra._internal.core_plugins.basic_sweeper.BasicSweeper")
    jobs = [job(0, "finished", 0.123456789, "lr=1", "m=a,b"), job(1, "failed", None, "lr=2", "+new.key='x=y'")]
    jobs[1] = replace(jobs[1], reason="b\udcffd.npy is missing")  # a file whose name is not UTF-8
    collected.plan(len(jobs))
    for one in jobs:
        collected.add(one)
    collected.end_of_batch("", tmp_path, last=False)
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["value"], row["lr"], row["m"], row["+new.key"], row["reason"]) for row in rows] == [
        ("0", "0.123456789", "1", "a,b", "", ""),
        ("1", "", "2", "", "'x=y'", "b\\udcffd.npy is missing"),
    ]
    assert f"\n{how_to_go_on(tmp_path, [])}\n" in (tmp_path / "summary.txt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "summary.txt"]


def test_a_directory_that_takes_no_files_costs_the_files_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collected, context = results(tmp_path / "gone")
    collected.add(job(0))
    context.end()
    assert "results.csv and summary.txt cannot be written" in caplog.text


class _Collector(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """Collect what is logged, also what consoles leave out: whoever sets them up does so with pytest's handler, too."""
    logger, handler = logging.getLogger("elastic_hydra"), _Collector()
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)
    logger.level, logger.propagate = before


def test_of_many_jobs_the_console_hears_at_milestones_and_of_what_fails(
    tmp_path: Path, logged: list[logging.LogRecord]
) -> None:
    collected, _ = results(tmp_path, _target_="hydra._internal.core_plugins.basic_sweeper.BasicSweeper")
    collected.plan(200)
    for number in range(200):
        collected.finished(job(number, "finished", 0.5))
    shown = [record.getMessage() for record in logged if not getattr(record, "in_the_log_only", False)]
    assert len(logged) == 200 + len(shown)
    assert [line.partition(",")[0].rstrip(")") for line in shown[:3]] == [
        "1 finished (1 of 200",
        "10 finished (10 of 200",
        "20 finished (20 of 200",
    ]
    assert shown[-1] == "200 finished (200 of 200)"
    assert len(shown) == 21
