"""The lines of the view: whole words on wide terminals, what matters most on narrow ones, and never a line too long."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from elastic_hydra.live.picture import Failure, Painter, Picture, Running, clock


def picture(jobs: int = 3, **facts: object) -> Picture:
    running = [Running(num, f"lr=0.{num}", 7.0 + 60 * num, num % 2, f"epoch {num}") for num in range(jobs)]
    return Picture(**{"total": 64, "finished": 12, "running": running, **facts})  # type: ignore[arg-type]


def lines(shown: Picture, width: int = 100, height: int = 12, encoding: str = "utf-8") -> list[str]:
    drawn = Painter(encoding).lines(shown, width, height)
    return [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in drawn]


def test_the_bar_says_how_far_the_sweep_is() -> None:
    bar = lines(picture(failed=1, left="3 min"))[0]
    assert bar.startswith("━")
    assert bar.endswith(" 13 of 64 done, 3 running, 1 failed, 3 min left")
    assert len(bar) == 100


def test_each_running_job_has_a_line() -> None:
    assert lines(picture(2))[1:] == [" #0  lr=0.0  0:07             epoch 0", " #1  lr=0.1  1:07  1 restart  epoch 1"]


def test_failures_come_last_and_say_why() -> None:
    failures = [Failure(3, "lr=3", "failed", "rank 1 raised ValueError: loss is nan")]
    assert lines(picture(1, failures=failures))[2:] == [" ✗ #3  lr=3  failed: rank 1 raised ValueError: loss is nan"]


@pytest.mark.parametrize(("height", "shown"), [(12, 7), (8, 4), (4, 2)])
def test_what_has_no_room_is_counted(height: int, shown: int) -> None:
    failures = [Failure(num, "lr=3", "failed", "why") for num in range(9)]
    drawn = lines(picture(20, failures=failures), height=height)
    assert len(drawn) == height
    assert sum(line.startswith(" #") for line in drawn) == shown
    assert any(re.search(r"and \d+ more", line) for line in drawn)


@pytest.mark.parametrize("width", [1, 10, 20, 39, 40, 59, 60, 79, 119, 300])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_line_is_too_long_and_all_can_be_said(width: int, encoding: str) -> None:
    running = [Running(num, "name=日本語" * num + "x" * 30, 1e6, num, "言葉 " * 40) for num in range(5)]
    failures = [Failure(77, "lr=3 " * 30, "interrupted", "why " * 50)]
    shown = Picture(1000, 100, 3, running, failures, "2 days 3 h")
    for line in lines(shown, width, 9, encoding):
        assert cell_len(line) <= width
        if encoding != "utf-8":
            assert re.sub("[日本語言葉]", "", line).isascii()


def test_what_would_move_the_cursor_is_not_shown() -> None:
    note = "\x1b[31mred\x1b[0m\x1b]0;title\x07 \r\n\tand \x1b[2Aup \x9bK"
    drawn = Painter().lines(Picture(1, running=[Running(0, "a=\x1b[1m1", 0.0, 0, note)]), 100, 5)
    without_colours = re.sub("\x1b\\[[0-9;]*m", "", "".join(drawn))
    assert without_colours.isprintable()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0:00"), (59.9, "0:59"), (60.0, "1:00"), (3599.0, "59:59"), (3600.0, "1:00:00"), (100_000.0, "1d 03:46")],
)
def test_a_clock_says_what_matters(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_hosts_that_wait_in_a_queue_have_a_line_where_there_is_room() -> None:
    waits = "1 host waits in the queue: Priority"
    shown = replace(picture(), pending=waits)
    assert lines(shown)[-1] == f" {waits}"
    assert len(lines(shown)) == len(lines(picture())) + 1
    assert waits not in "".join(lines(shown, height=2))
    assert len(lines(shown, height=3)) == 3
