"""The rows at the bottom of a terminal: they stay, and what others write above them is as it would be without them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from elastic_hydra.live.footer import GIVE_BACK, Footer
from tests.helpers.terminals import Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(60, 12) as terminal:
        yield terminal


def footer_of(terminal: Terminal) -> Footer:
    return Footer(terminal.slave)


def test_lines_scroll_above_it_and_none_is_lost(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    for number in range(30):
        terminal.write(f"line {number}\n")
        footer.show([f"bar {number}", "job"])
    assert terminal.rows[-2:] == ["bar 29", "job"]
    footer.remove()
    assert terminal.text.splitlines() == [f"line {number}" for number in range(30)]
    terminal.write("after\n")
    assert terminal.text.splitlines()[-1] == "after"


def test_a_progress_bar_above_it_overwrites_itself(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    for percent in range(0, 101, 10):
        terminal.write(f"\r{percent:3}%|{'#' * (percent // 10)}")
        footer.show(["footer"])
    terminal.write("\ndone\n")
    footer.remove()
    assert terminal.text.splitlines() == ["100%|##########", "done"]


def test_colours_of_others_go_on_behind_a_drawing(terminal: Terminal) -> None:
    terminal.write("\x1b[31mred ")
    footer_of(terminal).show(["\x1b[32mgreen"])
    terminal.write("still red")
    terminal.read()
    assert [terminal.screen.buffer[0][column].fg for column in (0, 8)] == ["red", "red"]
    assert terminal.screen.buffer[11][0].fg == "green"


def test_it_grows_and_shrinks_at_the_end_of_a_full_screen(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    for number in range(20):
        terminal.write(f"line {number}\n")
    for rows in (1, 4, 2, 5, 0, 3):
        footer.show([f"{rows} rows"] * rows)
        assert [row for row in terminal.rows if row.endswith("rows")] == [f"{rows} rows"] * rows
    footer.remove()
    assert terminal.text.splitlines() == [f"line {number}" for number in range(20)]


@pytest.mark.parametrize(("columns", "rows"), [(60, 8), (60, 20), (30, 12), (90, 5)])
def test_after_a_resize_it_is_at_the_bottom_and_nowhere_else(columns: int, rows: int, terminal: Terminal) -> None:
    footer = footer_of(terminal)
    for number in range(5):
        terminal.write(f"line {number}\n")
    footer.show(["bar", "job"])
    terminal.read()
    terminal.resize(columns, rows)
    footer.show(["bar", "job"])
    terminal.write("after\n")
    assert terminal.rows[-2:] == ["bar", "job"]
    assert [row for row in terminal.rows if row in ("bar", "job")] == ["bar", "job"]
    assert "line 4\nafter" in terminal.text


def test_it_draws_again_after_a_program_has_reset_the_terminal(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    footer.show(["bar", "job"])
    terminal.write("\x1bc")
    footer.show(["bar", "job"])
    for number in range(20):
        terminal.write(f"line {number}\n")
    assert terminal.rows[-3:] == ["", "bar", "job"]
    assert terminal.rows[-4] == "line 19"


def test_others_can_give_the_terminal_back(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    terminal.write("line\n$ ")
    footer.show(["bar", "job"])
    assert not terminal.is_whole
    terminal.write(GIVE_BACK)
    assert terminal.text == "line\n$"
    assert terminal.is_whole


def test_it_says_what_the_encoding_knows() -> None:
    with Terminal(60, 12) as terminal:
        Footer(terminal.slave, "ascii").show(["ü"])
        assert terminal.rows[-1] == "?"


def test_a_terminal_that_is_gone_is_an_error_when_drawing_and_none_at_the_end(terminal: Terminal) -> None:
    footer = footer_of(terminal)
    footer.show(["bar"])
    os.close(terminal.master)
    with pytest.raises(OSError):
        footer.show(["bar"])
    footer.remove()


@pytest.mark.parametrize("seed", range(100))
def test_whatever_others_write_and_whenever_it_is_drawn_their_output_is_the_same(seed: int) -> None:
    """Writers know nothing of the footer: lines, parts of lines, progress bars, two-line bars that go up again."""
    dice = random.Random(seed)
    with Terminal(40, 14) as terminal, Terminal(40, 14) as reference:
        footer = footer_of(terminal)
        for number in range(dice.randrange(5, 80)):
            text = dice.choice(
                [
                    f"line {number}\n",
                    f"part {number} ",
                    f"\rbar {number}",
                    f"\nfirst {number}\nsecond {number}\x1b[1A\rFIRST\x1b[1B\r",
                    f"{'long ' * 20}{number}\n",
                    "\n\n",
                    f"\x1b[3{number % 8}mcolour {number}\x1b[0m\n",
                ]
            )
            terminal.write(text)
            reference.write(text)
            if dice.random() < 0.5:
                footer.show([f"footer {number}"] * dice.randrange(8))
        footer.remove()
        assert terminal.text == reference.text
