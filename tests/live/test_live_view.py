"""The live view on a real terminal: what a person sees, types and gets back, whoever writes and whatever ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.apps import App, interrupted
from tests.helpers.terminals import Terminal

pytestmark = pytest.mark.system

WATCHED = {"TERM": "xterm-256color", "CI": ""}
SIDE_BY_SIDE = "hydra.launcher.parallel=3"

WAITS = """
    print(f"output of {cfg.x}")
    log.info("log of %s", cfg.x)
    while not Path(HydraConfig.get().sweep.dir, f"go.{cfg.x}").exists():
        time.sleep(0.05)
    print(f"last word of {cfg.x}")
    if cfg.x == 2:
        raise ValueError("loss is nan")
    return cfg.x / 4
"""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(100, 24) as terminal:
        yield terminal


def let_go(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"go.{number}").touch()


def shows_bar(terminal: Terminal, text: str) -> bool:
    return any(row.startswith("━") and text in row for row in terminal.rows)


def shows_job(terminal: Terminal, num: int, *texts: str) -> bool:
    return any(row.startswith(f" #{num} ") and all(text in row for text in texts) for row in terminal.rows)


def wait_for_question(terminal: Terminal, done: int) -> None:
    """Wait until a job asks, when so many jobs are done."""

    def asks() -> bool:
        questions = [line for line in terminal.text.splitlines() if line.startswith("go on?")]
        return shows_bar(terminal, f"{done} of 2 done") and len(questions) > done

    terminal.wait_for(asks, "a question")


@pytest.mark.smoke
def test_it_shows_what_runs_and_leaves_the_output_whole(tmp_path: Path, terminal: Terminal) -> None:
    app = App(tmp_path, WAITS)
    with app.started("+x=1,2,3", "+same=1", SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        terminal.wait_for(
            lambda: all(shows_job(terminal, num, f"+x={num + 1}", f"log of {num + 1}") for num in (0, 1, 2)), "the jobs"
        )
        assert shows_bar(terminal, "0 of 3 done, 3 running")
        assert not any("+same" in row for row in terminal.rows if row.startswith(" #"))
        let_go(running.folder, 2)
        terminal.wait_for(lambda: shows_bar(terminal, "1 of 3 done, 2 running, 1 failed"), "the failure")
        assert any("✗ #1" in row and "ValueError: loss is nan" in row for row in terminal.rows)
        let_go(running.folder, 1, 3)
        assert running.wait_for_launcher() == 1
        terminal.wait_for_text("2 finished, 1 failed")
    lines = terminal.text.splitlines()
    for number in (1, 2, 3):
        assert f"#{number - 1}: output of {number}" in lines
        assert f"#{number - 1}: last word of {number}" in lines
    assert terminal.is_whole
    assert not any(line.startswith(("━", " #")) for line in lines)
    table = next(index for index, line in enumerate(lines) if line.startswith("job  state"))
    assert table > lines.index("#2: last word of 3")


def test_a_job_that_runs_alone_has_its_progress_bar_and_the_keyboard(tmp_path: Path, terminal: Terminal) -> None:
    body = """
        for percent in range(0, 101, 20):
            print(f"\\r{percent:3}%|{'#' * (percent // 20):5}|", end="", flush=True)
        answer = input("\\ngo on? ")
        print("answer", answer)
    """
    with App(tmp_path, body).started("+x=1,2", environ=WATCHED, terminal=terminal) as running:
        for done, answer in enumerate(("yes", "no")):
            wait_for_question(terminal, done)
            terminal.type(f"{answer}\n")
        assert running.wait_for_launcher() == 0
        terminal.wait_for_text("2 finished")
    lines = terminal.text.splitlines()
    assert lines.count("100%|#####|") == 2
    for answer in ("yes", "no"):
        assert f"go on? {answer}" in lines
        assert f"answer {answer}" in lines


def test_ctrl_c_gives_the_terminal_back_and_shows_the_table(tmp_path: Path, terminal: Terminal) -> None:
    with App(tmp_path, WAITS).started("+x=1,2,3,4", SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        terminal.wait_for(lambda: shows_bar(terminal, "0 of 4 done, 3 running"), "the view")
        terminal.type("\x03")
        assert interrupted(running.wait_for_launcher())
        terminal.wait_for_text("3 interrupted, 1 not started", "To run what has not finished")
        assert terminal.is_whole
        assert not any(row.startswith(("━", " #")) for row in terminal.rows)
        assert running.survivors() == []


def test_a_launcher_that_stops_gives_the_terminal_back_until_it_goes_on(tmp_path: Path, terminal: Terminal) -> None:
    shell = ["bash", "--norc", "-c", 'set -m; "$@"; echo "has stopped"; read; fg; echo "has ended"', "bash"]
    app = App(tmp_path, WAITS, inside=shell)
    with app.started("+x=1,2,3", SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        terminal.wait_for(lambda: shows_bar(terminal, "0 of 3 done, 3 running"), "the view")
        terminal.type("\x1a")
        terminal.wait_for_text("has stopped")
        assert terminal.is_whole
        assert not any(row.startswith("━") for row in terminal.rows)
        terminal.type("\n")
        terminal.wait_for(lambda: shows_bar(terminal, "0 of 3 done, 3 running"), "the view")
        let_go(running.folder, 1, 2, 3)
        terminal.wait_for_text("has ended")
        assert terminal.is_whole
        assert "2 finished, 1 failed" in terminal.text


def test_a_launcher_that_is_killed_leaves_a_terminal_that_scrolls(tmp_path: Path, terminal: Terminal) -> None:
    with App(tmp_path, WAITS).started("+x=1,2,3", SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        terminal.wait_for(lambda: shows_bar(terminal, "0 of 3 done, 3 running"), "the view")
        assert not terminal.is_whole
        running.signal(signal.SIGKILL)
        terminal.wait_for(lambda: terminal.is_whole, "the end of the view")
        assert not any(row.startswith("━") for row in terminal.rows)
        assert running.survivors(within=60) == []


def test_another_size_of_the_terminal_is_heeded_at_once(tmp_path: Path, terminal: Terminal) -> None:
    with App(tmp_path, WAITS).started("+x=1,2,3", SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        terminal.wait_for(lambda: shows_bar(terminal, "0 of 3 done, 3 running"), "the view")
        terminal.resize(40, 20)
        terminal.wait_for(lambda: "━ 0/3, 3 running" in terminal.rows[-4], "the narrow view")
        terminal.resize(100, 5)
        terminal.wait_for(lambda: terminal.is_whole, "the end of a view for which there is no room")
        terminal.resize(100, 30)
        terminal.wait_for(lambda: terminal.rows[-4].startswith("━"), "the wide view")
        let_go(running.folder, 1, 2, 3)
        assert running.wait_for_launcher() == 1
        terminal.wait_for_text("2 finished, 1 failed")


def test_a_terminal_that_is_not_utf_8_gets_what_it_knows(tmp_path: Path, terminal: Terminal) -> None:
    environ = {**WATCHED, "PYTHONIOENCODING": "ascii"}
    with App(tmp_path, WAITS).started("+x=1,2", SIDE_BY_SIDE, environ=environ, terminal=terminal) as running:
        terminal.wait_for(lambda: any("= 0 of 2 done, 2 running" in row for row in terminal.rows), "the view")
        let_go(running.folder, 1, 2)
        assert running.wait_for_launcher() == 1
    assert max(terminal.raw) < 128


@pytest.mark.parametrize("overrides", [("+x=1,3", "hydra.launcher.live=false"), ("+x=1",)], ids=["off", "one job"])
def test_where_it_is_not_wanted_there_are_plain_lines(
    overrides: tuple[str, ...], tmp_path: Path, terminal: Terminal
) -> None:
    app = App(tmp_path, "print('output of', cfg.x)\nreturn cfg.x")
    with app.started(*overrides, SIDE_BY_SIDE, environ=WATCHED, terminal=terminal) as running:
        assert running.wait_for_launcher() == 0
        terminal.wait_for_text("#0 finished: 1 in", "output of 1")
    assert b"\x1b" not in terminal.raw
