"""What people see of the workers' files: all that matters, and nothing that only follows from it."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest

from elastic_hydra.elastic.tail import Tail

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 3, in main
    dist.barrier()
RuntimeError: Connection closed by peer
"""
CHAIN = TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK


class Console(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def text(self) -> str:
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.text():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)


def tail(path: Path, console: Console, prefix: str = "") -> Tail:
    return Tail({0: str(path)}, console, {0: prefix}, holds=True).start()


@pytest.mark.parametrize("prefix", ["", "#1: "])
def test_a_character_that_is_written_in_two_parts_stays_one(prefix: str, tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stdout.log"
    with open(path, "wb", buffering=0) as file:
        running = tail(path, console, prefix)
        file.write(b"one\n" + "é".encode()[:1])
        console.wait_for("one")
        file.write("é".encode()[1:] + b"t\xff\n" + "🏖".encode()[:2])
        console.wait_for("\n")
        running.stop()
    assert console.text().splitlines()[:2] == [f"{prefix}one", f"{prefix}ét\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_console_that_is_not_utf_8_loses_no_line(encoding: str, tmp_path: Path) -> None:
    console, path = Console(encoding), tmp_path / "stdout.log"
    path.write_text("before\nepoch 1: █ 50 %\nafter\n", encoding="utf-8")
    tail(path, console).stop()
    assert console.text() == "before\nepoch 1: \\u2588 50 %\nafter\n"


@pytest.mark.parametrize("prefix", ["", "#1: "])
@pytest.mark.parametrize("size", [200_000, 5_000_000])
def test_a_very_long_line_is_cut_on_the_console_only(size: int, prefix: str, tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stdout.log"
    path.write_text(f"before\n{'x' * size}\nafter\n")
    tail(path, console, prefix).stop()
    before, cut, after = console.text().splitlines()
    assert [before, after] == [f"{prefix}before", f"{prefix}after"]
    assert cut == f"{prefix}{'x' * 4000} … {size - 5000} characters more, which are in the file … {'x' * 1000}"


def test_a_line_that_is_chosen_for_a_file_of_its_own_is_whole(tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stdout.log"
    path.write_text(f"other\nloss {'x' * 200_000}\n")
    Tail({0: str(path)}, console, {0: ""}, lambda line: "loss" in line).start().stop()
    assert console.text() == f"loss {'x' * 200_000}\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_a_progress_bar_of_a_job_beside_others_is_a_line_in_its_last_state(end: str, tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stderr.log"
    path.write_bytes(f"before\n\r 0 %\r 50 %\r 100 %{end}".encode())
    tail(path, console, "#1: ").stop()
    assert console.text() == "#1: before\n#1:  100 %\n"


def test_a_progress_bar_of_a_job_alone_is_passed_on_as_it_is(tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stderr.log"
    path.write_bytes(b"\r 0 %\r 50 %\r 100 %\n")
    tail(path, console).stop()
    assert console.text() == "\r 0 %\r 50 %\r 100 %\n"


def test_a_progress_bar_that_has_not_ended_is_shown_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elastic_hydra.elastic.tail._BAR", 0.0)
    console, path = Console(), tmp_path / "stderr.log"
    with open(path, "wb", buffering=0) as file:
        running = tail(path, console, "#1: ")
        for percent in (10, 20, 30):
            file.write(f"\r{percent} %".encode())
            if percent > 10:
                console.wait_for(f"#1: {percent - 10} %\n")
        running.stop()
    assert console.text() == "#1: 10 %\n#1: 20 %\n#1: 30 %\n"


@pytest.mark.parametrize("prefix", ["", "#1: "])
@pytest.mark.parametrize("trace", [TRACEBACK, CHAIN, "".join(f"[rank0]: {line}\n" for line in TRACEBACK.splitlines())])
def test_the_traceback_of_a_rank_that_dies_of_anothers_death_is_held_back(
    trace: str, prefix: str, tmp_path: Path
) -> None:
    console, path = Console(), tmp_path / "stderr.log"
    with open(path, "w") as file:
        running = tail(path, console, prefix)
        file.write("before\n")
        file.flush()
        console.wait_for("before")
        file.write(f"{trace}checkpoint saved\n")
        file.flush()
        running.hold_back({0})
        running.stop()
    lines = [line for line in console.text().splitlines() if line != prefix and line]
    assert lines == [f"{prefix}before", f"{prefix}checkpoint saved"]


def test_the_traceback_of_a_rank_that_dies_of_its_own_accord_is_shown(tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stderr.log"
    path.write_text(CHAIN)
    running = tail(path, console)
    running.hold_back({1})
    running.stop()
    assert console.text() == CHAIN


def test_a_traceback_that_ends_nobody_is_shown_after_a_moment(tmp_path: Path) -> None:
    console, path = Console(), tmp_path / "stderr.log"
    path.write_text(f"before\n{TRACEBACK}going on\n")
    running = tail(path, console)
    console.wait_for("going on")
    running.stop()
    assert console.text() == path.read_text()


def test_a_file_that_is_never_made_says_nothing(tmp_path: Path) -> None:
    Tail({0: str(tmp_path / "none")}, sys.stdout, {0: ""}).start().stop()
